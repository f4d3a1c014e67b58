"""The rules of the driver, without a process: workers here are rows of a table, and a transport that only counts seconds."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from ppcore.errors import UserError
from ppgen.engines import driver
from ppgen.engines.driver import FAILURES, FIRST_FAILURES, Driver, Receive, Transport
from ppgen.engines.events import Event, Failure, Outcome

COMMIT = SimpleNamespace(samples=3, seconds=SimpleNamespace(total=1.0))
Result = Exception | str | None
"""Of an attempt: an exception raised, why the worker died, or None for a commit."""


@dataclass
class Worker:
    """A row of the table: a place for a worker.

    Attributes:
        result: shard -> what comes of it here.
        seconds: that a shard takes.
        load: what comes of loading the generator, for the n-th worker here.
    """

    node: str
    result: Callable[[int], Result] = lambda shard: None
    seconds: int = 1
    device: str = "cpu"
    load: Callable[[int], Result] = lambda n: None
    started: int = 0
    worker: driver.Worker | None = None
    ready: bool = False
    shard: int | None = None
    due: int = 0
    blocked: bool = False


@dataclass
class Simulation(Transport):
    """Every place has a worker as long as the driver wants one; loading takes a second."""

    workers: list[Worker]
    shards: int = 100
    events: list[Event] = field(default_factory=list)
    now: int = 0
    outcome: Outcome = field(default_factory=Outcome)

    def run(self) -> Simulation:
        self.outcome = Driver(range(self.shards), "out", self.events.append, self).run()
        return self

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.event == kind]

    def shards_of(self, kind: str) -> list[int]:
        return sorted(event.shard or 0 for event in self.of(kind))

    def wanted(self, alive: int, avoided: Collection[str]) -> int:
        return sum(not row.blocked and row.node not in avoided for row in self.workers)

    def start(self, avoided: Collection[str]) -> driver.Worker:
        rows = [row for row in self.workers if row.worker is None and not row.blocked]
        row = next(row for row in rows if row.node not in avoided)
        row.started += 1
        row.worker = driver.Worker()
        return row.worker

    def send(self, worker: driver.Worker, shard: int) -> None:
        row = self._row(worker)
        row.shard, row.due = shard, self.now + row.seconds

    def wait(self, receive: Receive) -> None:
        self.now += 1
        assert self.now < 10_000, "it goes on for ever"
        for row in self.workers:
            worker = row.worker
            if worker is None:
                continue
            if worker.seat is None:
                receive(worker, "placed", None, (f"{row.node} {id(row)} {row.started}", row.node, row.device))
            elif not row.ready:
                row.ready = True
                self._answer(receive, worker, None, row.load(row.started), "ready")
            elif row.shard is not None and self.now >= row.due:
                shard, row.shard = row.shard, None
                receive(worker, "begun", shard, None)
                self._answer(receive, worker, shard, row.result(shard), "committed")

    def _answer(
        self, receive: Receive, worker: driver.Worker, shard: int | None, result: Result, good: Any
    ) -> None:
        if result is None:
            receive(worker, good, shard, COMMIT)
        elif isinstance(result, str):
            receive(worker, "died", None, result)
        else:
            receive(worker, "failed", shard, Failure.of(result))

    def stop(self, worker: driver.Worker, *, block: bool) -> None:
        row = self._row(worker)
        row.worker, row.ready, row.blocked = None, False, block

    def close(self, *, at_once: bool) -> None:
        pass

    def _row(self, worker: driver.Worker) -> Worker:
        return next(row for row in self.workers if row.worker is worker)


def raises(text: str = "sick") -> Callable[[int], Result]:
    return lambda shard: RuntimeError(text)


def poisoned(*shards: int) -> Callable[[int], Result]:
    return lambda shard: ValueError("poisoned") if shard in shards else None


def kills(*shards: int) -> Callable[[int], Result]:
    return lambda shard: "killed" if shard in shards else None


def in_turn(*results: Result) -> Callable[[int], Result]:
    """These, and then commits."""
    left = deque(results)
    return lambda _: left.popleft() if left else None


def full(shard: int) -> Result:
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
        {"cpu of a", *(f"cpu of a, worker {n}" for n in (1, 2, 3))},
    ),
    "one sick GPU of four": (
        [
            Worker("a", device=f"GPU {n}", result=raises("CUDA error") if n == 2 else poisoned())
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
    run = Simulation(workers).run()
    assert set(run.outcome.failed) == failed
    assert {event.worker for event in run.of("quarantined")} == quarantined
    assert run.outcome.not_tried == 0
    assert run.shards_of("committed") == sorted(set(range(100)) - failed)
    assert run.shards_of("failed") == sorted(failed)


def test_a_fault_of_every_shard_does_not_cost_the_whole_plan() -> None:
    run = Simulation([Worker("a", raises("no such tensor")), Worker("b", raises("no such tensor"))]).run()
    outcome = run.outcome
    assert (
        "8 attempts in a row failed and no shard was committed: RuntimeError: no such tensor"
        in outcome.stopped
    )
    assert not run.of("committed")
    assert len(outcome.failed) <= FIRST_FAILURES[0]
    assert len(outcome.failed) + outcome.not_tried == 100


def test_a_fault_of_every_shard_that_begins_late_is_bounded_too() -> None:
    run = Simulation([Worker("a", in_turn(*[None] * 30, *[RuntimeError("gone")] * 999))]).run()
    assert len(run.of("committed")) == 30
    assert f"{FAILURES[0]} attempts in a row failed since the last commit" in run.outcome.stopped


def test_deaths_without_end_are_bounded() -> None:
    run = Simulation([Worker("a", lambda shard: "killed by the kernel") for _ in range(2)]).run()
    assert f"{FAILURES[0]} attempts in a row failed" in run.outcome.stopped
    assert len(run.of("missed")) <= FAILURES[0] + 1


def test_a_mistake_of_the_user_ends_the_run_at_once() -> None:
    with pytest.raises(UserError, match="no such weights"):
        Simulation([Worker("a", load=lambda n: UserError("no such weights"))]).run()


def test_a_mistake_of_the_user_on_every_node_ends_the_run_when_all_have_reported_it() -> None:
    workers = [Worker(node, load=lambda n: UserError("no such weights")) for node in "abc"]
    with pytest.raises(UserError, match="no such weights"):
        Simulation(workers).run()
    assert [worker.started for worker in workers] == [1, 1, 1]


def test_a_full_disk_everywhere_ends_the_run_with_what_to_do() -> None:
    with pytest.raises(
        UserError, match=r"cannot write to out \(No space left on device\); make it writable or free"
    ):
        Simulation([Worker("a", full), Worker("b", full)]).run()


def test_workers_that_never_start_end_the_run() -> None:
    with pytest.raises(
        UserError, match=r"no worker could be started \(3 attempts failed, the last with: .*broken"
    ):
        Simulation([Worker("a", load=lambda n: RuntimeError("broken"))]).run()


def test_a_shard_that_raised_goes_to_another_worker_next() -> None:
    run = Simulation([Worker("a", poisoned(0)), Worker("b")], shards=30).run()
    (missed,) = run.of("missed")
    assert (missed.shard, missed.node, missed.again) == (0, "a", True)
    assert not run.of("failed")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("bad"), "shard"),
        (RuntimeError("CUDA error: unspecified launch failure"), "machine"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), "machine"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"), "machine"),
        (RuntimeError("CUDA error: device-side assert triggered"), "shard"),
        (MemoryError(), "machine"),
        (OSError(errno.EIO, "Input/output error"), "machine"),
        (OSError(errno.ESTALE, "Stale file handle"), "machine"),
        (OSError(errno.ENOSPC, "No space left on device"), "node"),
        (FileNotFoundError(errno.ENOENT, "No such file"), "shard"),
        (UserError("a mistake"), "node"),
    ],
)
def test_what_kind_of_fault_an_exception_is(error: Exception, kind: str) -> None:
    assert Failure.of(error).kind == kind
