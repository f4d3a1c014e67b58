"""Faults of machines: workers that always fail, bad nodes, pre-emption, wrong clocks, missing locks, and a second driver."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from faultkit.rig import MISCHIEF, SHARDS, Breaker, Case, Run, search_path

_QUARANTINED = "gets no more shards"


def sick_worker(after: int, reason: str) -> Breaker:
    """One worker of three, and every worker that replaces it, raises an exception for every shard after `after` good batches."""

    def break_it(case: Case) -> None:
        settings = {"sick": case.out.parent / "sick.lock", "sick_after": after, "reason": reason}
        stderr = case.finish(case.run(settings))
        case.notes.append(f"after {after} batches, {stderr.count(_QUARANTINED)} workers quarantined")
        if case.exits[-1] != 0:
            raise AssertionError(f"exit status {case.exits[-1]}:\n{stderr}")

    return break_it


@contextmanager
def worse_node(case: Case, **environment: str) -> Iterator[None]:
    """A third node with this environment, which gives it a fault."""
    case.grid.join(**environment)
    try:
        yield
    finally:
        case.grid.leave()


def faulty_late_node(case: Case, message: str, **environment: str) -> None:
    """A run wants more workers than have room. A bad node joins, and the other workers are slow until the run reports its fault."""
    slow = case.out.parent / "slow"
    run = case.run({"delay": 0.5, "slow": slow}, workers=6)
    case.until(run, case.dice.uniform(0.05, 0.3))
    slow.touch()
    with worse_node(case, **environment):
        run.until_printed(message)
        slow.unlink()
        expect(case, case.finish(run), message)


def late_bad_node(case: Case) -> None:
    """The node lacks the weights."""
    faulty_late_node(case, "the weights are not on this node", BAD_NODE="1")


def full_disk_of_a_node(case: Case) -> None:
    """The node cannot write."""
    environment = {"PYTHONPATH": search_path(MISCHIEF), "FAULT": f"full:{case.out}"}
    faulty_late_node(case, "No space left on device", **environment)


def skewed_node(seconds: int) -> Breaker:
    """A node whose clock is wrong joins."""

    def break_it(case: Case) -> None:
        environment = {"PYTHONPATH": search_path(MISCHIEF), "FAULT": f"skew:{seconds}"}
        run = case.run({"delay": 0.4}, workers=6)
        with worse_node(case, **environment):
            expect(case, case.finish(run))
        case.notes.append(f"a node {seconds} s off")

    return break_it


def skewed_driver(case: Case) -> None:
    """A driver whose clock is a week behind is killed; a driver with the right clock resumes."""
    run = case.run(fault="skew:-604800")
    case.until(run, case.somewhere())
    run.process.kill()
    case.finish(run)
    case.resume()


def storm(every_s: float, delay: float) -> Breaker:
    """Every `every_s` seconds one of the three workers is killed."""

    def break_it(case: Case) -> None:
        run, killed, at = case.run({"delay": delay}), 0, time.monotonic() + every_s
        while run.process.poll() is None:
            if time.monotonic() >= at and (victims := run.workers()):
                os.kill(case.dice.choice(victims), signal.SIGKILL)
                killed, at = killed + 1, time.monotonic() + every_s
            time.sleep(0.1)
        expect(case, case.finish(run))
        case.notes.append(f"one of 3 workers killed every {every_s:g} s, {killed} times")

    return break_it


def refused_locks(case: Case) -> None:
    """The file system of the driver has no locks."""
    expect(case, case.finish(case.run(fault="locks")))


def two_drivers_without_locks(case: Case) -> None:
    """A second driver where the file system refuses locks."""
    two_drivers(case, "locks")


def two_drivers(case: Case, fault: str = "") -> None:
    """The same command is started a second time during the run. It must be refused and disturb nothing; without locks it waits."""
    slow = case.out.parent / "slow"
    first = case.run({"delay": 0.8, "slow": slow}, fault=fault)
    case.until(first, case.dice.uniform(0.1, 0.4))
    if not fault:
        slow.touch()
    second = Run(case.out, case.base / "second", case.grid.address, fault=fault)
    status, stderr = second.wait()
    slow.unlink(missing_ok=True)
    case.notes.append(f"the second ended with {status}")
    if first.committed() < SHARDS and (status != 2 or "another ppgen is writing" not in stderr):
        raise AssertionError(f"exit status {status} of the second:\n{stderr}")
    expect(case, case.finish(first))


def expect(case: Case, stderr: str, *texts: str) -> None:
    """Check that the run has succeeded and printed these texts."""
    missing = [text for text in texts if text not in stderr]
    if case.exits[-1] != 0 or missing:
        raise AssertionError(f"exit status {case.exits[-1]}, not printed: {missing}\n{stderr}")
