"""The Ray engine on a real cluster of several raylets on this machine."""

from __future__ import annotations

import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rig import Watch, fingerprints, stored, synth, synth_job

from ppcore.errors import UserError
from ppgen.engines import make_shards, run
from ppgen.engines.events import Event, Failure
from ppgen.options import EngineOptions
from ppgen.plan.document import encode_plan
from ppgen.sources.protocol import SourceSpec
from ppgen.upkeep.verify import verify_directory

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402

from ppgen.engines.ray import ActorWorker  # noqa: E402

pytestmark = pytest.mark.slow

STORE = 80 << 20


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head without room for workers and one node with four CPUs."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    head = {"num_cpus": 0, "object_store_memory": STORE, "include_dashboard": False}
    several = Cluster(initialize_head=True, head_node_args=head)
    several.add_node(num_cpus=4, object_store_memory=STORE)
    ray.init(address=several.address, log_to_driver=False, logging_level="ERROR")
    yield several
    ray.shutdown()
    several.shutdown()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What every run below must come to: an inline run's bytes."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    assert synth(out, spec=painter()) == 0
    return made(out)


def made(out: Path) -> dict[str, str]:
    """Fingerprints of all but plan.json, which says with which options the painter was loaded, and what tells its fingerprint."""
    skipped = ("plan.json", "index.json", "README.md")
    return {name: digest for name, digest in fingerprints(out).items() if name not in skipped}


def painter(**options: Any) -> SourceSpec:
    return SourceSpec("fragile:build", device="cpu", sampling=options)


def on_ray(**options: Any) -> EngineOptions:
    return EngineOptions(engine="ray", **options)


@pytest.fixture
def any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shards of a run come in another order."""
    make = run.make_shards
    shuffled = lambda job, shards, *more: make(job, random.Random(5).sample(shards, len(shards)), *more)  # noqa: E731
    monkeypatch.setattr(run, "make_shards", shuffled)


def test_four_workers_and_another_order_give_the_same_bytes(
    any_order: None, cluster: Cluster, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    watch = Watch()
    assert synth(tmp_path / "out", on_ray(workers=4), watch, spec=painter(delay=0.02)) == 0
    assert made(tmp_path / "out") == undisturbed
    assert sum(event.samples for event in watch.of("sampled")) == 75
    assert sorted(event.shard for event in watch.of("committed")) == [0, 1, 2, 3]


def test_one_of_two_workers_is_killed(cluster: Cluster, undisturbed: dict[str, str], tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    killed: list[int] = []

    def kill(event: Event) -> None:
        alive = [int(pid.name) for pid in pids.iterdir() if int(pid.name) != os.getpid()]
        if not killed and alive and event.event == "committed":
            killed.append(alive[0])
            os.kill(alive[0], signal.SIGKILL)

    watch = Watch(kill)
    assert synth(tmp_path / "out", on_ray(workers=2), watch, spec=painter(delay=0.2, pids=str(pids))) == 0
    assert killed
    assert watch.of("missed")
    assert "was lost" in watch.of("missed")[0].text
    assert made(tmp_path / "out") == undisturbed
    assert verify_directory(*stored(tmp_path / "out")).ok


def test_one_worker_on_nodes_that_come_and_go(
    cluster: Cluster, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    """A worker of five CPUs has no room at first; then a node joins, its raylet is killed at work, and another joins."""
    joined: list[Any] = []

    def mischief(event: Event) -> None:
        # a slow cluster gives notice of waiting for room more than once
        first = event.event == "notice" and not joined
        if first or (event.event == "missed" and len(joined) == 1):
            joined.append(cluster.add_node(num_cpus=5, object_store_memory=STORE))
        if event.event == "committed" and joined[0] in cluster.worker_nodes and len(joined) == 1:
            cluster.remove_node(joined[0], allow_graceful=False)

    watch = Watch(mischief)
    try:
        assert synth(tmp_path / "out", on_ray(cpus_per_worker=5), watch, spec=painter(delay=0.2)) == 0
    finally:
        cluster.remove_node(joined[-1])
    assert len(joined) == 2
    assert {event.alive for event in watch.of("workers")} >= {0, 1}
    assert watch.of("missed")
    assert made(tmp_path / "out") == undisturbed


def test_a_failing_sample_is_reported_with_its_row(cluster: Cluster, tmp_path: Path, capfd) -> None:
    rows = synth_job(tmp_path / "out", spec=painter()).plan.sample_rows(2)
    watch = Watch()
    assert synth(tmp_path / "out", on_ray(workers=2), watch, spec=painter(failing=int(rows.seed[3]))) == 1
    message = capfd.readouterr().err
    assert "1 of 4 shards failed: shard 2 (samples 40 to 59, seed 3)" in message
    assert "ValueError: this sample is cursed" in message
    assert [event.again for event in watch.of("missed")] == [True, True, False]
    assert len(watch.of("failed")) == 1
    assert len(watch.of("committed")) == 3
    assert synth(tmp_path / "out", spec=painter()) == 0  # without the curse it resumes


def test_a_users_mistake_seen_by_a_worker_ends_the_run(cluster: Cluster, tmp_path: Path) -> None:
    job = synth_job(tmp_path / "out", spec=painter())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "plan.json").write_bytes(encode_plan(job.plan))
    other = replace(job, source=painter(version=2))
    with pytest.raises(UserError, match="is not the one of the plan"):
        make_shards(other, [0], on_ray(workers=1), lambda event: None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cpus_per_worker": 0}, "--cpus-per-worker is 0"),
        ({"gpus_per_worker": 1.5}, "--gpus-per-worker is 1.5"),
        ({"device": "cuda:1"}, "give --device cuda"),
    ],
)
def test_wrong_reservations(cluster: Cluster, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    job = synth_job(tmp_path / "out", spec=painter())
    if "device" in options:
        job = replace(job, source=replace(job.source, device=options.pop("device")))
    with pytest.raises(UserError, match=message):
        make_shards(job, [0], on_ray(**options), lambda event: None)


def test_only_small_records_leave_a_worker(tmp_path: Path) -> None:
    job = synth_job(tmp_path / "out", spec=painter())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "plan.json").write_bytes(encode_plan(job.plan))
    worker = ActorWorker(job, 1.0)
    answers = [worker.sample(1), worker.progress(), worker.commit(1)]
    assert answers[:2] == [20, 20]
    with pytest.raises(Exception) as raised:
        worker.sample(77)
    answers.append(Failure.of(raised.value))
    assert max(len(pickle.dumps(answer)) for answer in answers) < 4000


def test_a_machine_that_does_not_share_the_directory_is_refused(tmp_path: Path) -> None:
    job = synth_job(tmp_path / "out", spec=painter())
    with pytest.raises(UserError, match="share"):
        ActorWorker(job, 1.0)


def start(out: Path, *options: str) -> subprocess.Popen[str]:
    """The same plan from the command line, on two workers; returns once a shard is committed."""
    args = ["synth", "--source", "fragile:build", "--device", "cpu", "--out", str(out), "--seed", "3"]
    args += ["--classes", "0,2,5", "--per-class", "25", "--batch-size", "8", "--samples-per-shard", "20"]
    command = [
        sys.executable,
        "-m",
        "ppgen",
        *args,
        "--sampler",
        "delay=0.5",
        "--engine",
        "ray",
        *options,
    ]
    path = os.pathsep.join([str(Path(__file__).parents[1]), *(p for p in sys.path if p)])
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": path},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while not list(out.glob("commits/*.json")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    return process


def test_the_driver_is_killed(cluster: Cluster, undisturbed: dict[str, str], tmp_path: Path) -> None:
    process = start(tmp_path / "out", "--workers", "2", "--address", cluster.address)
    process.kill()
    process.wait()
    assert not (tmp_path / "out" / "index.json").exists()
    assert synth(tmp_path / "out", spec=painter()) == 0  # beside workers that may not yet know of the death
    assert made(tmp_path / "out") == undisturbed
    assert verify_directory(*stored(tmp_path / "out")).ok


def test_a_local_ray_is_as_nice_as_its_command_and_sigterm_stops_it_cleanly(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    process = start(tmp_path / "out", "--workers", "1", "--sampler", f"pids={pids}")
    niceness = {os.getpriority(os.PRIO_PROCESS, int(pid.name)) for pid in pids.iterdir()}
    assert len(list(pids.iterdir())) == 2  # the driver, which made the plan, and the worker
    assert len(niceness) == 1
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "run the same command again to resume" in err
    assert "Traceback" not in err
    ours = ("75 images in", "synth: ", "stopped; ")
    assert [line for line in (out + err).splitlines() if line and not line.startswith(ours)] == []
    assert not list((tmp_path / "out").rglob(".tmp-*"))


def test_an_address_where_nothing_answers() -> None:
    from ppgen.engines.cluster import require_listener

    require_listener("auto")
    with pytest.raises(UserError, match="nothing answers at --address"):
        require_listener("127.0.0.1:9")
