"""The Ray engine where nodes differ: GPUs the driver has not, a node that cannot work, a cluster without nodes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from rig import synth

from ppcore.errors import UserError
from ppcore.storage import Store
from ppgen.cli import read_options
from ppgen.engines.base import Event, Notice, OnEvent, Quarantined, Summary
from ppgen.engines.describe import DescribedSource, Workplace, open_for_plan
from ppgen.options import SynthOptions
from ppgen.plan import Settings
from ppgen.shards import Job
from ppgen.shards.state import read_plan
from ppgen.sources.spec import SourceSpec

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402

from ppgen.engines.ray import RayEngine, WorkerRange, remote  # noqa: E402

pytestmark = pytest.mark.slow

STORE = 80 << 20
FORTY = Settings(seed=3, batch_size=5, samples_per_shard=5)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head without room for workers."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    head = {"num_cpus": 0, "object_store_memory": STORE, "include_dashboard": False}
    several = Cluster(initialize_head=True, head_node_args=head)
    ray.init(address=several.address, log_to_driver=False, logging_level="ERROR")
    yield several
    ray.shutdown()
    several.shutdown()


def painter(device: str = "cpu", **options: Any) -> SourceSpec:
    return SourceSpec("fragile:build", device=device, sampling=options)


class Watched(RayEngine):
    """Keeps events; a node joins at the first of a kind."""

    def __init__(self, cluster: Cluster, at: type, node: dict[str, Any], **options: Any) -> None:
        super().__init__(**options)
        self.events: list[Event] = []
        self.node: Any = None
        self._cluster, self._at, self._options = cluster, at, node

    def run(self, job: Job, shards: Sequence[int], on_event: OnEvent) -> Summary:
        def heard(event: Event) -> None:
            self.events.append(event)
            on_event(event)
            if self.node is None and isinstance(event, self._at):
                self.node = self._cluster.add_node(object_store_memory=STORE, wait=False, **self._options)

        return super().run(job, shards, heard)


def test_a_late_node_with_a_bad_environment_ends_neither_run_nor_shard(
    cluster: Cluster, tmp_path: Path, capfd
) -> None:
    """Two workers are wanted and one has room; the node that joins for the other lacks the weights."""
    from ppgen.engines.base import Committed

    good = cluster.add_node(num_cpus=1, object_store_memory=STORE)
    engine = Watched(cluster, Committed, {"num_cpus": 1, "env_vars": {"BAD_NODE": "0"}}, workers=2)
    try:
        status = synth(tmp_path / "out", engine, per_class=100, settings=FORTY, spec=painter(delay=0.3))
    finally:
        for node in (good, engine.node):
            cluster.remove_node(node)
    assert status == 0
    (told,) = [event for event in engine.events if isinstance(event, Quarantined)]
    assert "the weights are not on this node" in told.error
    assert len(list((tmp_path / "out/commits").iterdir())) == 60
    assert "the weights are not on this node" in capfd.readouterr().err


def test_a_driver_without_a_gpu_plans_for_workers_with_one(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the source says of itself is what it says on the worker, and the driver opens nothing."""
    from ppgen.cli import generation
    from ppgen.engines import describe

    monkeypatch.setattr(describe, "open_generator", lambda spec: pytest.fail("opened by the driver"))
    node = cluster.add_node(num_cpus=2, num_gpus=1, object_store_memory=STORE)
    options = {"source": "fragile:build", "classes": "0,2", "per_class": 10, "batch_size": 5}
    options |= {"out": str(tmp_path / "out"), "engine": "ray", "address": cluster.address, "workers": 1}
    try:
        wanted = read_options("synth", {**options, "set": ["says_gpus=true"]})
        assert isinstance(wanted, SynthOptions)
        assert generation.run(generation.prepare(wanted)) == 0
    finally:
        cluster.remove_node(node)
    assert read_plan(Store(tmp_path / "out")).source["on"] == "0"


def test_cuda_is_accepted_by_a_driver_without_one(cluster: Cluster) -> None:
    """The worker is asked, and it is the worker that has none: this GPU is Ray's word only."""
    node = cluster.add_node(num_cpus=1, num_gpus=1, object_store_memory=STORE)
    try:
        with pytest.raises(UserError, match="PyTorch sees no CUDA device"):
            open_for_plan(painter("cuda"), Workplace("ray", address=cluster.address))
    finally:
        cluster.remove_node(node)


def test_where_nothing_has_a_gpu_the_source_is_opened_here(cluster: Cluster) -> None:
    node = cluster.add_node(num_cpus=1, object_store_memory=STORE)
    try:
        spec, generator = open_for_plan(painter("auto"), Workplace("ray", address=cluster.address))
    finally:
        cluster.remove_node(node)
    assert spec.device == "cpu"
    assert not isinstance(generator, DescribedSource)


def test_a_cluster_without_nodes_is_waited_for(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan's question and the run both begin with no node at all; one joins once they say what they wait for."""
    said: list[str] = []
    joined: list[Any] = []

    def say(text: str) -> None:
        said.append(text)
        joined.append(cluster.add_node(num_cpus=1, num_gpus=1, object_store_memory=STORE, wait=False))

    monkeypatch.setattr(remote, "say", say)
    try:
        with pytest.raises(UserError, match="PyTorch sees no CUDA device"):
            open_for_plan(painter("cuda"), Workplace("ray", address=cluster.address))
    finally:
        cluster.remove_node(joined[0])
    assert set(said) == {
        "waiting for a worker of 1 CPU and 1 GPU that says what the source is (Ctrl-C stops)"
    }
    engine = Watched(cluster, Notice, {"num_cpus": 2}, workers=WorkerRange(1, 2))
    try:
        assert synth(tmp_path / "out", engine, spec=painter()) == 0
    finally:
        cluster.remove_node(engine.node)
    (notice,) = [event for event in engine.events if isinstance(event, Notice)]
    assert "waiting for one to join (1 asked for; Ctrl-C stops)" in notice.text


@pytest.mark.parametrize(
    ("wish", "room", "alive", "wanted"),
    [
        (WorkerRange(), 0, 0, 1),
        (WorkerRange(), 6, 2, 6),
        (WorkerRange(5, 5), 2, 2, 5),
        (WorkerRange(5, 5), 9, 5, 5),
        (WorkerRange(2, 20), 0, 0, 2),
        (WorkerRange(2, 20), 2, 2, 4),
        (WorkerRange(2, 20), 16, 16, 20),
        (WorkerRange(2, None), 1, 1, 2),
    ],
)
def test_how_many_workers_are_asked_for(wish: WorkerRange, room: int, alive: int, wanted: int) -> None:
    assert wish.wanted(room, alive) == wanted
