"""Whose directory it is: locks on the file systems of clusters, and two runs that begin at the same moment."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rig import fingerprints, stored, synth, synth_job
from victims import two_at_once

from ppcore.errors import UserError
from ppcore.storage import Store, locks
from ppgen.engines.run import run_job
from ppgen.options import HERE
from ppgen.shards.directory import claimed
from ppgen.upkeep.verify import verify_directory


def _refuse(number: int) -> Any:
    def refuse(descriptor: int, blocking: bool) -> bool:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF])
def test_without_locks_a_lease_keeps_a_second_run_out(
    number: int, tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Lustre without `flock`, NFS without its lock service, a user-space file system, NFSv4 on a handle for reading."""
    monkeypatch.setattr(locks, "lock_descriptor", _refuse(number))
    monkeypatch.setattr(locks, "_LEASE_S", 0.4)
    job = synth_job(tmp_path / "out")
    with caplog.at_level(logging.WARNING), claimed(Store(job.out), job.plan, None):
        assert [record.message for record in caplog.records if "without locks" in record.message]
        assert len(caplog.records) == 1
        assert (tmp_path / "out" / "plan.json.lock").exists()
        with pytest.raises(UserError, match="another ppgen is writing"):
            synth(tmp_path / "out")
    assert synth(tmp_path / "out") == 0
    assert fingerprints(tmp_path / "out") == fingerprints(made)
    assert verify_directory(*stored(tmp_path / "out")).ok


def test_a_killed_holders_lease_lapses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "lock_descriptor", _refuse(errno.ENOSYS))
    monkeypatch.setattr(locks, "_LEASE_S", 0.4)
    job = synth_job(tmp_path / "out")
    lease = tmp_path / "out" / "plan.json.lock"
    with claimed(Store(job.out), job.plan, None):
        left = lease.read_bytes()
    lease.write_bytes(left)  # its process is gone and nobody renews it
    assert synth(tmp_path / "out") == 0
    assert not lease.exists()


def test_another_error_of_the_lock_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "lock_descriptor", _refuse(errno.EIO))
    with pytest.raises(UserError, match=r"cannot write to .* \(Input/output error\)"):
        synth(tmp_path / "out")


def test_the_lock_lies_on_a_handle_that_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFSv4 refuses an exclusive lock on any other with EBADF."""

    def nfs4(descriptor: int, blocking: bool) -> bool:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return True

    monkeypatch.setattr(locks, "lock_descriptor", nfs4)
    job = synth_job(tmp_path / "out")
    with claimed(Store(job.out), job.plan, None):
        assert not (tmp_path / "out" / "plan.json.lock").exists()
    assert stored(tmp_path / "out")[1] == job.plan


def test_of_two_runs_that_begin_together_one_owns_the_directory(tmp_path: Path) -> None:
    """Two processes with different requests have both seen that there is no plan when the first of them writes it."""
    for attempt in range(3):
        out = tmp_path / str(attempt)
        loser, told = two_at_once(str(out))
        assert "another run with another request" in told[loser]
        assert told[30 - loser] == ""
        store, plan = stored(out)
        assert plan.samples == 3 * (30 - loser)
        assert verify_directory(store, plan).ok


def test_of_two_runs_of_one_request_with_their_sources_elsewhere_the_second_takes_the_firsts_plan(
    tmp_path: Path, made: Path
) -> None:
    """Both have seen that there is no plan; a moment later the second would have resumed."""
    first = synth_job(tmp_path / "out")
    second = replace(first, plan=replace(first.plan, load={"source": "elsewhere/dummy.py:build"}))
    assert first.plan.fingerprint != second.plan.fingerprint
    assert run_job(first, HERE, None) == 0
    (tmp_path / "out/commits/000001.json").unlink()
    assert run_job(second, HERE, None) == 0
    assert stored(tmp_path / "out")[1] == first.plan
    assert fingerprints(tmp_path / "out") == fingerprints(made)
    assert verify_directory(*stored(tmp_path / "out")).ok


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: object, target: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    store = Store(tmp_path)
    assert store.create("plan.json", b"first")
    assert not store.create("plan.json", b"second")
    assert store.create("plan.json", b"first")
    assert os.listdir(tmp_path) == ["plan.json"]
    assert store.read("plan.json") == b"first"
