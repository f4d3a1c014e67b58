"""A run that is killed and resumed ends in the same bytes as one that was left alone."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from rig import fingerprints, stored, synth, synth_job
from victims import die_at, painter, run_once, start

from ppcore.errors import UserError
from ppcore.storage import Store
from ppgen.shards.directory import claimed, pending_shards
from ppgen.upkeep.verify import verify_directory


def check_halfway(out: Path) -> None:
    """What counts as committed is whole, whatever moment the run died in."""
    if not (out / "plan.json").exists():
        return
    store, plan = stored(out)
    counted = set(range(plan.num_shards)) - set(pending_shards(store, plan))
    assert not counted & set(verify_directory(store, plan).shards)


def test_killed_at_every_write(tmp_path: Path) -> None:
    """Two shards: a run of some thirty renames and fsyncs, killed at each of them."""
    synth(tmp_path / "whole", spec=painter(0.0), per_class=10)
    undisturbed = fingerprints(tmp_path / "whole")
    operation = 0
    while True:
        operation += 1
        out = tmp_path / str(operation)
        process = start(die_at, str(out), operation, 10)
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == 9
        check_halfway(out)
        assert synth(out, spec=painter(0.0), per_class=10) == 0
        assert fingerprints(out) == undisturbed
    assert operation > 25


def test_killed_at_random_moments(tmp_path: Path) -> None:
    synth(tmp_path / "whole", spec=painter(0.01), per_class=40)
    undisturbed = fingerprints(tmp_path / "whole")
    for attempt in range(100):
        process = start(run_once, str(tmp_path / "out"), 0.01, 40)
        if attempt < 12:
            time.sleep(random.uniform(0.0, 0.15))
            process.kill()
        process.join()
        if process.exitcode == 0:
            break
        check_halfway(tmp_path / "out")
    assert attempt > 0
    assert fingerprints(tmp_path / "out") == undisturbed


def test_a_refused_run_leaves_the_first_ones_files_alone(tmp_path: Path) -> None:
    """A file that the first run is still writing has a temporary name; only who holds the directory may delete it."""
    job = synth_job(tmp_path / "out", spec=painter(0.0))
    store, temporary = Store(job.out), tmp_path / "out" / "shards" / ".tmp-1-000000.tar"
    with claimed(store, job.plan, None):
        temporary.parent.mkdir()
        temporary.write_bytes(b"half of a shard")
        before = sorted((tmp_path / "out").rglob("*"))
        with pytest.raises(UserError, match="another ppgen is writing"):
            synth(tmp_path / "out", spec=painter(0.0))
        assert sorted((tmp_path / "out").rglob("*")) == before
    assert not temporary.exists()
    assert synth(tmp_path / "out", spec=painter(0.0)) == 0


def test_a_second_run_beside_the_first_is_refused(tmp_path: Path) -> None:
    process = start(run_once, str(tmp_path / "out"), 0.1, 25)
    while not (tmp_path / "out" / "shards").exists():
        time.sleep(0.01)
    with pytest.raises(UserError, match="another ppgen is writing"):
        synth(tmp_path / "out", spec=painter(0.1))
    process.kill()
    process.join()
    assert synth(tmp_path / "out", spec=painter(0.1)) == 0
