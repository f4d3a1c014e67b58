"""The Ray engine where nodes differ: GPUs the driver has not, a node that cannot work, a cluster without nodes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rig import Watch, synth

from ppcore.errors import UserError
from ppcore.storage import Store
from ppgen.cli import read_options
from ppgen.engines import engine
from ppgen.engines.cluster import cluster as connected
from ppgen.engines.cluster import make_reservation
from ppgen.engines.engine import open_for_workers
from ppgen.engines.events import Event
from ppgen.options import EngineOptions, ShardOptions, SynthOptions
from ppgen.shards.directory import read_plan
from ppgen.sources import Generator
from ppgen.sources.protocol import SourceSpec

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402

from ppgen.engines import ray as ray_engine  # noqa: E402
from ppgen.engines.ray import call_on_worker, workers_wanted  # noqa: E402

pytestmark = pytest.mark.slow

STORE = 80 << 20
FORTY = ShardOptions(seed=3, batch_size=5, samples_per_shard=5)


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


def on_ray(cluster: Cluster) -> EngineOptions:
    return EngineOptions(engine="ray", address=cluster.address)


def class_names(spec: SourceSpec, generator: Generator) -> list[str]:
    """Must run on any worker of the cluster."""
    return list(generator.class_names)


class Joining(Watch):
    """A node joins at the first event of a kind."""

    def __init__(self, cluster: Cluster, at: str, **node: Any) -> None:
        super().__init__(self._join)
        self.node: Any = None
        self._cluster, self._at, self._options = cluster, at, node

    def _join(self, event: Event) -> None:
        if self.node is None and event.event == self._at:
            self.node = self._cluster.add_node(object_store_memory=STORE, wait=False, **self._options)


def test_a_late_node_with_a_bad_environment_ends_neither_run_nor_shard(
    cluster: Cluster, tmp_path: Path, capfd
) -> None:
    """Two workers are wanted and one has room; the node that joins for the other lacks the weights."""
    good = cluster.add_node(num_cpus=1, object_store_memory=STORE)
    watch = Joining(cluster, "committed", num_cpus=1, env_vars={"BAD_NODE": "0"})
    try:
        two = EngineOptions(engine="ray", workers=2)
        status = synth(tmp_path / "out", two, watch, per_class=100, settings=FORTY, spec=painter(delay=0.3))
    finally:
        for node in (good, watch.node):
            cluster.remove_node(node)
    assert status == 0
    (quarantined,) = watch.of("quarantined")
    assert "the weights are not on this node" in quarantined.text
    assert len(list((tmp_path / "out/commits").iterdir())) == 60
    assert "the weights are not on this node" in capfd.readouterr().err


def test_a_driver_without_a_gpu_plans_for_workers_with_one(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source is opened on the worker, and the driver opens nothing."""
    from ppgen.cli import generation

    monkeypatch.setattr(engine, "open_generator", lambda spec: pytest.fail("opened by the driver"))
    node = cluster.add_node(num_cpus=2, num_gpus=1, object_store_memory=STORE)
    options = {"source": "fragile:build", "classes": "0,2", "per_class": 10, "batch_size": 5}
    options |= {"out": str(tmp_path / "out"), "engine": "ray", "address": cluster.address, "workers": 1}
    try:
        wanted = read_options("synth", {**options, "sampler": ["says_gpus=true"]})
        assert isinstance(wanted, SynthOptions)
        assert generation.generate(wanted) == 0
    finally:
        cluster.remove_node(node)
    assert read_plan(Store(tmp_path / "out")).source["on"] == "0"


def test_cuda_is_accepted_by_a_driver_without_one(cluster: Cluster) -> None:
    """The worker is asked, and it is the worker that has none: this GPU is Ray's word only."""
    node = cluster.add_node(num_cpus=1, num_gpus=1, object_store_memory=STORE)
    try:
        with pytest.raises(UserError, match="PyTorch finds no CUDA device"):
            open_for_workers(painter("cuda"), on_ray(cluster), class_names)
    finally:
        cluster.remove_node(node)


def test_a_node_without_the_package_is_reported_at_once(cluster: Cluster, tmp_path: Path) -> None:
    """It is on the path of the driver only."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "ppgen.py").write_text("raise ModuleNotFoundError(\"No module named 'ppgen'\")")
    node = cluster.add_node(
        num_cpus=1, object_store_memory=STORE, env_vars={"PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    )
    try:
        with pytest.raises(UserError, match=r"cannot run workers .*install the same packages on every node"):
            synth(tmp_path / "out", EngineOptions(engine="ray", workers=1), spec=painter())
        with connected(cluster.address), pytest.raises(UserError, match="install the same packages"):
            call_on_worker(make_reservation("cpu", on_ray(cluster)), class_names, None, None)
    finally:
        cluster.remove_node(node)


def test_where_nothing_has_a_gpu_the_source_is_opened_here(cluster: Cluster) -> None:
    node = cluster.add_node(num_cpus=1, object_store_memory=STORE)
    try:
        spec, generator, names = open_for_workers(painter("auto"), on_ray(cluster), class_names)
    finally:
        cluster.remove_node(node)
    assert spec.device == "cpu"
    assert generator is not None
    assert list(generator.class_names) == names


def test_a_cluster_without_nodes_is_waited_for(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan's question and the run both begin with no node at all; one joins once they say what they wait for."""
    said: list[str] = []
    joined: list[Any] = []

    def say(text: str, **_: object) -> None:
        said.append(text)
        joined.append(cluster.add_node(num_cpus=1, num_gpus=1, object_store_memory=STORE, wait=False))

    monkeypatch.setattr(ray_engine, "print", say, raising=False)
    try:
        with pytest.raises(UserError, match="PyTorch finds no CUDA device"):
            open_for_workers(painter("cuda"), on_ray(cluster), class_names)
    finally:
        cluster.remove_node(joined[0])
    assert set(said) == {"waiting for a worker of 1 CPU and 1 GPU to open the source (Ctrl-C stops)"}
    watch = Joining(cluster, "notice", num_cpus=2)
    try:
        assert synth(tmp_path / "out", EngineOptions(engine="ray", max_workers=2), watch, spec=painter()) == 0
    finally:
        cluster.remove_node(watch.node)
    (notice,) = watch.of("notice")
    assert "waiting for one to join (1 workers wanted; Ctrl-C stops)" in notice.text


@pytest.mark.parametrize(
    ("least", "most", "room", "alive", "wanted"),
    [
        (1, None, 0, 0, 1),
        (1, None, 6, 2, 6),
        (5, 5, 2, 2, 5),
        (5, 5, 9, 5, 5),
        (2, 20, 0, 0, 2),
        (2, 20, 2, 2, 4),
        (2, 20, 16, 16, 20),
        (2, None, 1, 1, 2),
    ],
)
def test_how_many_workers_are_asked_for(
    least: int, most: int | None, room: int, alive: int, wanted: int
) -> None:
    assert workers_wanted(least, most, room, alive) == wanted
