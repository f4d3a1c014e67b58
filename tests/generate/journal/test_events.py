"""The event log: every event a line, bounded, in the directory, and no part of the data."""

from __future__ import annotations

import itertools
import json
import logging
import os
import time
from pathlib import Path

import pytest
from rig import fingerprints, logged, stored, synth_job

from ppcore.shards import LOGS, ShardSet
from ppcore.storage import Store, stderr
from ppgen.engines import run
from ppgen.engines.events import Event
from ppgen.engines.run import run_job
from ppgen.journal import EventLog, log
from ppgen.journal.log import read_events
from ppgen.options import HERE, EngineOptions
from ppgen.sources.protocol import SourceSpec
from ppgen.upkeep.verify import verify_directory


def records(out: Path | str) -> list[Event]:
    """Of all logs, in order."""
    store = Store(out)
    return [record for name in store.list(LOGS) for record in read_events(store.read(f"{LOGS}/{name}"))]


@pytest.mark.parametrize("workers", [1, 2])
def test_every_event_is_a_line_and_the_data_is_the_same(workers: int, tmp_path: Path, made: Path) -> None:
    assert logged(tmp_path / "out", workers) == 0
    found = records(tmp_path / "out")
    assert (found[0].event, found[0].samples) == ("began", 75)
    assert (found[-1].event, found[-1].status) == ("ended", 0)
    commits = [record for record in found if record.event == "committed"]
    assert sorted((record.shard, record.samples) for record in commits) == [
        (0, 20),
        (1, 20),
        (2, 20),
        (3, 15),
    ]
    assert {record.worker for record in commits} <= {
        record.worker for record in found if record.event == "joined"
    }
    assert all(one.time <= other.time for one, other in itertools.pairwise(found))
    assert fingerprints(tmp_path / "out") == fingerprints(made)
    assert verify_directory(*stored(tmp_path / "out")).ok
    assert ShardSet.open(str(tmp_path / "out")).samples == 75


def test_nothing_to_do_leaves_no_log(tmp_path: Path) -> None:
    assert logged(tmp_path / "out") == 0
    before = Store(tmp_path / "out").list(LOGS)
    assert logged(tmp_path / "out") == 0
    assert Store(tmp_path / "out").list(LOGS) == before


def test_a_failure_is_logged_with_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "fail").write_text("1")
    assert logged(tmp_path / "out", fail=str(tmp_path / "fail")) == 0
    missed = [record for record in records(tmp_path / "out") if record.event == "missed"]
    assert len(missed) == 1
    assert missed[0].died is False
    assert missed[0].text is not None
    assert missed[0].text.startswith("Traceback")
    assert missed[0].text.endswith("the painter's hand slipped")
    assert missed[0].again is True


def test_what_ends_a_run_is_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "make_shards", interrupted)
    job = synth_job(tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        run_job(job, HERE, None, [EventLog(Store(job.out))])
    assert (records(job.out)[-1].event, records(job.out)[-1].status) == ("ended", 130)


def test_a_log_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "PART_BYTES", 300)
    monkeypatch.setattr(log, "MAX_PARTS", 3)
    assert logged(tmp_path / "out") == 0
    parts = sorted((tmp_path / "out" / LOGS).iterdir())
    assert len(parts) == 3
    assert parts[0].name.endswith("-000.jsonl")  # how it began and how it ended
    assert all(part.stat().st_size <= 300 for part in parts)
    assert (records(tmp_path / "out")[0].event, records(tmp_path / "out")[-1].event) == ("began", "ended")


def test_old_logs_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "MAX_RUNS", 3)
    logs = tmp_path / "out" / LOGS
    assert logged(tmp_path / "out") == 0
    for year in range(2020, 2026):
        for part in (0, 1):
            (logs / f"events-{year}0101T000000-abcdef-{part:03d}.jsonl").write_text("")
    (tmp_path / "out" / "commits" / "000001.json").unlink()
    assert logged(tmp_path / "out") == 0
    kept = sorted({path.name[:13] for path in logs.iterdir()})
    assert len(kept) <= 3
    assert "events-202401" not in kept


def test_a_log_that_cannot_be_written_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Store, "append", full)
    with caplog.at_level(logging.WARNING):
        assert logged(tmp_path / "out") == 0
    assert [record.message for record in caplog.records if "event log" in record.message]
    assert len(caplog.records) == 1


def test_an_object_store_gets_the_log_at_intervals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "BEAT_S", 0.02)
    monkeypatch.setattr(log, "UPLOAD_S", 0.05)
    uploads: list[int] = []
    write = Store.write_atomic

    def counted(store: Store, name: str, data: bytes) -> None:
        if name.startswith(LOGS):
            uploads.append(len(data))
        write(store, name, data)

    monkeypatch.setattr(Store, "write_atomic", counted)
    out = f"memory://{tmp_path.name}"
    assert logged(out, delay=0.05) == 0
    assert len(uploads) > 2
    assert uploads == sorted(uploads)
    found = records(out)
    assert (found[0].event, found[-1].event) == ("began", "ended")
    assert "progress" in {record.event for record in found}


def test_what_workers_say_is_kept_and_shown(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Until the last words of one that crashes; who says nothing leaves no file."""
    out = tmp_path / "out"
    spec = SourceSpec("talkative:build", device="cpu", sampling={"where": str(tmp_path / "once")})
    assert run_job(synth_job(out, spec=spec), EngineOptions(workers=2), None, [EventLog(Store(out))]) == 0
    (kept,) = (path for path in (out / LOGS).iterdir() if path.name.startswith("worker-"))
    assert "last words" in kept.read_text()
    assert "Fatal Python error" in kept.read_text()
    assert "first words" in capfd.readouterr().err
    assert any(record.event == "missed" and record.died for record in records(out))


def test_what_a_worker_says_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    monkeypatch.setattr(stderr, "_MAX_BYTES", 1000)
    monkeypatch.setattr(stderr, "_LOOK_S", 0.01)
    kept = stderr.KeptStderr(Store(tmp_path), "logs/worker.log")
    for number in range(100):
        os.write(2, f"line {number} of a hundred\n".encode())
        time.sleep(0.002)
    kept.close()
    os.write(2, b"afterwards\n")
    text = (tmp_path / "logs" / "worker.log").read_text()
    assert len(text) < 2000
    assert "earlier lines were dropped" in text
    assert "line 99 of a hundred" in text
    assert "afterwards" not in text
    shown = capfd.readouterr().err
    assert "line 99 of a hundred" in shown
    assert "afterwards" in shown


def test_a_torn_or_strange_line_is_left_out() -> None:
    whole = Event(time=1.0, event="notice", text="a\nb").encode()
    assert whole.count(b"\n") == 1
    strange = [
        b"{",
        b"[]",
        json.dumps({"time": -1, "event": "notice"}).encode(),
        b'{"time": 1e999, "event": "x"}',
    ]
    assert [record.text for record in read_events(b"\n".join([*strange, whole, whole[:-9]]))] == ["a\nb"]
