"""The rules of leases, without a process: workers here are rows of a table."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import pytest

from ppcore.errors import UserError
from ppgen.engines.base import Event, Failed, Retried
from ppgen.engines.failures import Failure, WorkerLocation
from ppgen.engines.leases import FAILURES, FIRST_FAILURES, Leases
from ppgen.shards import ShardCommit

COMMIT = cast(ShardCommit, None)  # the rules only pass it on
Outcome = Exception | str | None
"""Of a lease: an exception raised, why the worker died, or None for a commit."""


@dataclass
class Worker:
    """A seat as the table describes it.

    Attributes:
        outcome: shard -> what comes of it here.
        seconds: a lease takes.
        load: what comes of loading the generator, for the n-th worker on this seat.
    """

    node: str
    outcome: Callable[[int], Outcome] = lambda shard: None
    seconds: int = 1
    device: str = "cpu"
    load: Callable[[int], Outcome] = lambda n: None
    place: WorkerLocation | None = None
    born: int = 0
    shard: int | None = None
    due: int = 0


@dataclass
class Simulation:
    """Engines in miniature: every worker that raises or dies is replaced on its seat, one load a second."""

    workers: list[Worker]
    shards: int = 100
    events: list[Event] = field(default_factory=list)

    def run(self) -> Leases:
        leases = Leases(range(self.shards), "out", self.events.append)
        for now in range(10_000):
            if not leases and not any(worker.shard is not None for worker in self.workers):
                return leases
            for worker in self.workers:
                self._step(leases, worker, now)
        raise AssertionError("it goes on for ever")

    def _step(self, leases: Leases, worker: Worker, now: int) -> None:
        if worker.place is None:
            worker.born += 1
            worker.place = WorkerLocation(f"{id(worker)}-{worker.born}", worker.node, worker.device)
            leases.starting(worker.place)
            came = worker.load(worker.born)
            if came is not None:
                more = any(other.born == 0 for other in self.workers)
                leases.not_started(worker.place, failure(came), more)
                self._replace(leases, worker)
                return
            leases.ready(worker.place)
        if worker.shard is not None and now >= worker.due:
            shard, worker.shard = worker.shard, None
            came = worker.outcome(shard)
            if came is None:
                leases.committed(worker.place, shard, COMMIT)
            elif isinstance(came, str):
                leases.lost(worker.place, shard, came)
                self._replace(leases, worker)
            else:
                leases.failed(worker.place, shard, Failure.of(came))
                leases.require_workers(more=False)
                self._replace(leases, worker)
        elif worker.shard is None:
            worker.shard, worker.due = leases.lease(worker.place), now + worker.seconds

    def _replace(self, leases: Leases, worker: Worker) -> None:
        assert worker.place is not None
        if not leases.is_quarantined(worker.place):
            leases.left(worker.place)
            worker.place = None


def failure(came: Outcome) -> Failure | str:
    return came if isinstance(came, str) else Failure.of(cast(Exception, came))


def raises(text: str = "sick") -> Callable[[int], Outcome]:
    return lambda shard: RuntimeError(text)


def poisoned(*shards: int) -> Callable[[int], Outcome]:
    return lambda shard: ValueError("poisoned") if shard in shards else None


def kills(*shards: int) -> Callable[[int], Outcome]:
    return lambda shard: "killed" if shard in shards else None


def in_turn(*outcomes: Outcome) -> Callable[[int], Outcome]:
    """These, and then commits."""
    left = list(outcomes)
    return lambda _: left.pop(0) if left else None


def full(shard: int) -> Outcome:
    return OSError(errno.ENOSPC, "No space left on device")


CASES: dict[str, tuple[list[Worker], set[int], set[str]]] = {
    # name: workers, shards that fail, places that are quarantined; of 100 shards nothing else is lost or left out
    "a healthy worker": ([Worker("a")], set(), set()),
    "a worker that fails fast, beside a slow one": (
        [Worker("a", raises(), 0), Worker("a", seconds=20)],
        set(),
        {"cpu of a"},
    ),
    "a node on which everything fails": (
        [*(Worker("a", raises(), 0) for _ in range(4)), Worker("b", seconds=5), Worker("b", seconds=5)],
        set(),
        {"a"},
    ),
    "one sick GPU of four": (
        [
            Worker("a", device=f"GPU {n}", outcome=raises("CUDA error") if n == 2 else poisoned())
            for n in range(4)
        ],
        set(),
        {"GPU 2 of a"},
    ),
    "seven sick nodes and a slow healthy one": (
        [*(Worker(f"n{n}", raises(), 0) for n in range(7)), Worker("well", seconds=9)],
        set(),
        {f"cpu of n{n}" for n in range(7)},
    ),
    "a node with a full disk": (
        [Worker("a", full), Worker("a", full), Worker("b"), Worker("c")],
        set(),
        {"a"},
    ),
    "a GPU that fails late": (
        [
            Worker("a", in_turn(*[None] * 10, *[RuntimeError("CUDA error: Xid 79")] * 90)),
            Worker("b", seconds=3),
        ],
        set(),
        {"cpu of a"},
    ),
    "poisoned shards on one worker": (
        [Worker("a", poisoned(0, 1, 2, 3, 50, 99))],
        {0, 1, 2, 3, 50, 99},
        set(),
    ),
    "poisoned shards in a row on three nodes": (
        [Worker(node, poisoned(*range(8))) for node in "abc"],
        set(range(8)),
        set(),
    ),
    "poisoned shards and a sick node": (
        [Worker("a", raises(), 0), Worker("b", poisoned(7, 8)), Worker("c", poisoned(7, 8), seconds=2)],
        {7, 8},
        {"cpu of a"},
    ),
    "a twelfth of all shards poisoned": (
        [Worker(node, lambda shard: ValueError("poisoned") if shard % 12 == 0 else None) for node in "ab"],
        set(range(0, 100, 12)),
        set(),
    ),
    "shards that kill their workers": ([Worker("a", kills(5)), Worker("b", kills(5))], {5}, set()),
    "workers that die now and then": (
        [Worker(n, in_turn("pre-empted", None, "pre-empted", "pre-empted", None, "killed")) for n in "abc"],
        set(),
        set(),
    ),
    "a storm: every third lease ends in a death": (
        [Worker(node, in_turn(*["pre-empted", None, None] * 20)) for node in "ab"],
        set(),
        set(),
    ),
    "a late node with a bad environment": (
        [Worker("a"), Worker("b", load=lambda n: UserError("no weights here"))],
        set(),
        {"b"},
    ),
    "one GPU that cannot be opened": (
        [Worker("a", device="GPU 0"), Worker("a", device="GPU 1", load=lambda n: RuntimeError("CUDA error"))],
        set(),
        {"GPU 1 of a"},
    ),
    "a first worker that fails to load twice": (
        [Worker("a", load=lambda n: RuntimeError("busy") if n < 3 else None)],
        set(),
        set(),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_fails_and_what_is_quarantined(name: str) -> None:
    workers, failed, quarantined = CASES[name]
    summary = Simulation(workers).run().summary
    assert set(summary.failed) == failed
    assert set(summary.quarantined) == quarantined
    assert summary.abandoned == 0
    assert sorted(summary.committed) == sorted(set(range(100)) - failed)


def test_a_fault_of_every_shard_does_not_cost_the_whole_plan() -> None:
    simulation = Simulation([Worker("a", raises("no such tensor")), Worker("b", raises("no such tensor"))])
    summary = simulation.run().summary
    assert (
        "8 workers in a row failed and no shard was committed: RuntimeError: no such tensor"
        in summary.stopped
    )
    assert summary.committed == []
    assert len(summary.failed) <= FIRST_FAILURES[0]
    assert len(summary.failed) + summary.abandoned == 100


def test_a_fault_of_every_shard_that_begins_late_is_bounded_too() -> None:
    summary = Simulation([Worker("a", in_turn(*[None] * 30, *[RuntimeError("gone")] * 999))]).run().summary
    assert len(summary.committed) == 30
    assert (
        f"{FAILURES[0]} workers in a row failed and no shard was committed since the last" in summary.stopped
    )


def test_deaths_without_end_are_bounded() -> None:
    simulation = Simulation([Worker("a", lambda shard: "killed by the kernel") for _ in range(2)])
    summary = simulation.run().summary
    assert f"{FAILURES[0]} workers in a row failed" in summary.stopped
    assert sum(isinstance(event, Retried) for event in simulation.events) <= FAILURES[0]


def test_a_users_mistake_is_told_at_once() -> None:
    with pytest.raises(UserError, match="no such weights"):
        Simulation([Worker("a", load=lambda n: UserError("no such weights"))]).run()


def test_a_users_mistake_on_every_node_is_told_when_all_have_seen_it() -> None:
    workers = [Worker(node, load=lambda n: UserError("no such weights")) for node in "abc"]
    with pytest.raises(UserError, match="no such weights"):
        Simulation(workers).run()
    assert [worker.born for worker in workers] == [1, 1, 1]


def test_a_full_disk_everywhere_ends_the_run_with_what_to_do() -> None:
    with pytest.raises(
        UserError, match=r"cannot write to out \(No space left on device\); make it writable or free"
    ):
        Simulation([Worker("a", full), Worker("b", full)]).run()


def test_workers_that_never_start_are_told() -> None:
    with pytest.raises(
        UserError, match=r"no worker could be started \(3 tries failed, the last with: .*broken"
    ):
        Simulation([Worker("a", load=lambda n: RuntimeError("broken"))]).run()


def test_a_shard_that_raised_goes_to_another_node_next() -> None:
    simulation = Simulation([Worker("a", poisoned(0)), Worker("a"), Worker("b")], shards=30)
    simulation.run()
    first = next(event for event in simulation.events if isinstance(event, Retried))
    assert (first.shard, first.place.node) == (0, "a")
    assert not [event for event in simulation.events if isinstance(event, Failed)]


@pytest.mark.parametrize(
    ("error", "blame"),
    [
        (ValueError("bad"), "work"),
        (RuntimeError("CUDA error: unspecified launch failure"), "machine"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), "machine"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"), "machine"),
        (RuntimeError("CUDA error: device-side assert triggered"), "work"),
        (MemoryError(), "machine"),
        (OSError(errno.EIO, "Input/output error"), "machine"),
        (OSError(errno.ESTALE, "Stale file handle"), "machine"),
        (OSError(errno.ENOSPC, "No space left on device"), "node"),
        (FileNotFoundError(errno.ENOENT, "No such file"), "work"),
        (UserError("a mistake"), "node"),
    ],
)
def test_whose_fault_an_exception_is(error: Exception, blame: str) -> None:
    assert Failure.of(error).blame == blame
