"""Status and metrics: of a running, dead, stopped, finished, remote or old directory, from what is in it alone."""

from __future__ import annotations

import json
import sys
import time
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rig import logged, stored, synth_job

from ppcore.errors import UserError
from ppcore.shards import LOGS
from ppcore.storage import Store
from ppgen.cli.commands import app
from ppgen.engines.events import Event
from ppgen.engines.run import run_job
from ppgen.journal import MetricsFile, RayMetrics, metrics, read_status, render
from ppgen.options import HERE


def test_finished(tmp_path: Path) -> None:
    assert logged(tmp_path / "out", workers=2) == 0
    status = read_status(Store(tmp_path / "out"), price_per_hour=3600.0)
    assert (status.state, status.samples, status.shards) == ("finished", 75, 4)
    assert status.rate is not None
    assert status.rate > 0
    seconds = sum(
        json.loads(path.read_text())["seconds"]["total"] for path in (tmp_path / "out" / "commits").iterdir()
    )
    assert status.cost == pytest.approx(seconds)
    assert status.cost_left == 0
    assert sum(worker.shards for worker in status.slowest) == 4
    assert "finished" in render(status)
    assert "100.0 %" in render(status)


def test_an_old_directory_without_a_log(made: Path) -> None:
    status = read_status(Store(made))
    assert (status.state, status.rate, status.last) == ("finished", None, "")
    assert [worker.shards for worker in status.slowest] == [4]  # its machine, from the commit records


def test_running_then_dead(tmp_path: Path) -> None:
    """Two of four shards are committed and the log has no last line."""
    assert logged(tmp_path / "out") == 0
    for shard in (2, 3):
        (tmp_path / "out" / "commits" / f"00000{shard}.json").unlink()
    log = next((tmp_path / "out" / LOGS).iterdir())
    lines = [line for line in log.read_bytes().splitlines(True) if b'"ended"' not in line]
    beat = Event(time=time.time(), event="progress", samples=60, alive=2, wanted=3)
    missed = Event(
        time=time.time(),
        event="missed",
        worker="process 7",
        node="sick",
        device="GPU 3",
        shard=2,
        text="a\nXid 79",
    )
    gone = Event(time=time.time(), event="quarantined", worker="GPU 3 of sick", text="failed: Xid 79")
    log.write_bytes(b"".join([*lines, missed.encode(), gone.encode(), beat.encode(), b'{"torn']))
    status = read_status(Store(tmp_path / "out"))
    assert (status.state, status.samples, status.alive, status.wanted) == ("running", 40, 2, 3)
    assert status.rate is not None
    assert status.eta_s == pytest.approx(35 / status.rate)
    assert [(worker.name, worker.failures, worker.error) for worker in status.failing] == [
        ("sick (GPU 3, process 7)", 1, "Xid 79")
    ]
    assert status.quarantined == ["GPU 3 of sick failed: Xid 79"]
    assert "2 of 3 workers alive" in render(status)
    dead = read_status(Store(tmp_path / "out"), now=time.time() + 60)
    assert (dead.state, dead.eta_s, dead.alive) == ("dead", None, None)


def test_stopped_and_failed(tmp_path: Path) -> None:
    assert logged(tmp_path / "out") == 0
    (tmp_path / "out" / "commits" / "000003.json").unlink()
    log = next((tmp_path / "out" / LOGS).iterdir())
    for status, state in ((143, "stopped"), (130, "stopped"), (1, "failed"), (2, "failed")):
        with log.open("ab") as handle:
            handle.write(Event(time=time.time(), event="ended", status=status).encode())
        assert read_status(Store(tmp_path / "out")).state == state


def test_a_remote_directory(tmp_path: Path) -> None:
    out = f"memory://{tmp_path.name}"
    assert logged(out) == 0
    assert read_status(Store(out)).state == "finished"


def test_a_strangers_log_moves_no_cursor(tmp_path: Path) -> None:
    assert logged(tmp_path / "out") == 0
    log = next((tmp_path / "out" / LOGS).iterdir())
    with log.open("ab") as handle:
        for event in ("missed", "quarantined", "notice"):
            handle.write(
                Event(time=1.0, event=event, worker="\x1b[2J", node="\x9b", text="\x1b]0;x\x07").encode()
            )
    assert all(c.isprintable() or c == "\n" for c in render(read_status(Store(tmp_path / "out"))))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert logged(tmp_path / "out") == 0
    for options in ([], ["--watch"], ["--price-per-hour", "2"]):
        app(args=["status", str(tmp_path / "out"), *options], standalone_mode=False)
        assert "75 of 75 samples, 4 of 4 shards" in capsys.readouterr().out
    app(args=["status", str(tmp_path / "out"), "--json"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["state"] == "finished"
    with pytest.raises(UserError, match="is no shard directory"):
        app(args=["status", str(tmp_path / "nowhere")], standalone_mode=False)
    with pytest.raises(UserError, match="price-per-hour"):
        app(args=["status", str(tmp_path / "out"), "--price-per-hour", "-1"], standalone_mode=False)


def test_a_metrics_file(tmp_path: Path) -> None:
    job = synth_job(tmp_path / "out")
    watcher = MetricsFile(str(tmp_path / "ppgen.prom"), job.out)
    assert run_job(job, HERE, None, [watcher]) == 0
    lines = (tmp_path / "ppgen.prom").read_text().splitlines()
    assert f'ppgen_committed_samples_total{{out="{job.out}"}} 75.0' in lines
    assert "# TYPE ppgen_committed_shards_total counter" in lines
    assert f'ppgen_workers_alive{{out="{job.out}"}} 0.0' in lines
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "ppgen.prom"]
    for path in ("x.txt", "nowhere/x.prom"):
        with pytest.raises(UserError, match="metrics-file"):
            MetricsFile(str(tmp_path / path), job.out)


def test_metrics_of_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reported: dict[str, float] = {}

    class Fake:
        def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
            self.name = name
            assert (bool(description), tag_keys) == (True, ("out",))

        def set(self, value: float, tags: dict[str, str]) -> None:
            reported[self.name] = value

        def inc(self, value: float, tags: dict[str, str]) -> None:
            assert value > 0
            reported[self.name] = reported.get(self.name, 0) + value

    module: Any = types.ModuleType("ray.util.metrics")
    module.Counter = module.Gauge = Fake
    monkeypatch.setitem(sys.modules, "ray.util.metrics", module)
    monkeypatch.setattr(metrics, "EVERY_S", 0.0)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: True))
    assert run_job(synth_job(tmp_path / "out"), HERE, None, [RayMetrics("out")]) == 0
    assert (reported["ppgen_committed_samples"], reported["ppgen_committed_shards"]) == (75, 4)
    assert (
        reported["ppgen_sampled"],
        reported["ppgen_planned_samples"],
        reported["ppgen_workers_alive"],
    ) == (75, 75, 0)
    assert stored(tmp_path / "out")[1].samples == 75
