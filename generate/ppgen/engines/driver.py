"""The driver of a run: it leases shards to workers, retries what failed, replaces workers, and decides when to stop.

- A shard that failed goes to another worker if there is one. It is given up after three exceptions, or after ten faults of machines
  (a dead worker, a CUDA error, an I/O error).
- A worker that raised an exception is replaced.
- Every worker has a seat: a place for one worker on a node and a device. The replacement of a worker takes its seat. A seat where
  three shards in a row failed waits while other seats work. If these shards succeed elsewhere, the seat is quarantined.
- A node that cannot write (full disk, no permission) or cannot open the source is quarantined. If no other is left, the run ends.
- Many failures in a row without a commit end the run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ppcore.errors import UserError
from ppgen.engines.events import Event, Failure, Kind, OnEvent, Outcome

MAX_EXCEPTIONS = 3  # of a shard
MAX_FAULTS = 10  # of machines, at one shard
SEAT_LIMIT = 3  # shards in a row that fail on a seat, or workers in a row that do not start there
FAILED_STARTS = 3  # in a row, before any worker was ready
FIRST_FAILURES = (8, 4)  # in a row before the first commit: at least this many, and this many a worker
FAILURES = (20, 5)  # the same after the first commit, or if a worker died


@dataclass(eq=False)
class Seat:
    """A place for one worker.

    Attributes:
        name: for messages.
        failed: shards that failed here since the last commit here; a worker's death does not count.
        elsewhere: those of them that another worker has committed.
        failed_starts: workers in a row that did not become ready here.
        error: the last error here.
    """

    node: str
    device: str
    name: str
    failed: set[int] = field(default_factory=set)
    elsewhere: set[int] = field(default_factory=set)
    failed_starts: int = 0
    error: str = ""
    quarantined: bool = False

    @property
    def suspect(self) -> bool:
        """Whether so many shards failed here that the seat may be the cause."""
        return self.quarantined or len(self.failed) >= SEAT_LIMIT


@dataclass(eq=False)
class Worker:
    """The driver's view of a worker.

    Attributes:
        process: its name; every worker has another one.
        seat: None until it has been started somewhere.
        ready: whether it has loaded its generator.
        failed: whether it raised an exception; it is replaced when it holds no shard.
        sampling: the shard that it is sampling.
        committing: shards that it has sampled and not yet committed.
    """

    process: str = ""
    seat: Seat | None = None
    ready: bool = False
    failed: bool = False
    sampling: int | None = None
    committing: list[int] = field(default_factory=list)

    @property
    def leased(self) -> list[int]:
        """The shards that it holds."""
        return self.committing + ([] if self.sampling is None else [self.sampling])

    @property
    def quarantined(self) -> bool:
        return self.seat is not None and self.seat.quarantined


Message = Literal["placed", "ready", "sampled", "begun", "committed", "failed", "died", "notice"]
Receive = Callable[[Worker | None, Message, int | None, Any], None]
"""Called with worker, message, shard and content. `placed`: it was started as (process, node, device); `ready`: it takes shards;
`sampled`: a number of samples; `begun`: the shard is sampled and is being committed; `committed`: with the commit record; `failed`:
with a :class:`Failure`, and without a shard if the start failed; `died`: with the reason; `notice`: with a text, without a worker."""


class Transport(ABC):
    """Starts workers and carries messages between them and the driver."""

    @abstractmethod
    def wanted(self, alive: int, avoided: Collection[str]) -> int:
        """How many workers to have now, if `alive` are ready and the nodes `avoided` are not to be used."""

    @abstractmethod
    def start(self, avoided: Collection[str]) -> Worker:
        """Start a worker. It sends `placed`, then `ready` or `failed`."""

    @abstractmethod
    def send(self, worker: Worker, shard: int) -> None:
        """Give a worker a shard."""

    @abstractmethod
    def wait(self, receive: Receive) -> None:
        """Wait for messages, at most about a second, and pass them on."""

    @abstractmethod
    def stop(self, worker: Worker, *, block: bool) -> None:
        """Stop a worker that holds no shard; `block`: let no other worker use its device."""

    @abstractmethod
    def close(self, *, at_once: bool) -> None:
        """Stop all workers; `at_once`: do not wait for what they are doing."""


class Driver:
    """One run.

    Args:
        shards: what to make, in order.
        out: the directory, for messages.
    """

    def __init__(self, shards: Sequence[int], out: str, on_event: OnEvent, transport: Transport) -> None:
        self._out, self._on_event, self._transport = out, on_event, transport
        self._fresh = deque(shards)
        self._retries: dict[int, str] = {}  # shard -> its last error
        self._failures: dict[int, list[tuple[Seat, Kind]]] = defaultdict(list)
        self._attempts: Counter[int] = Counter()
        self._workers: list[Worker] = []
        self._seats: list[Seat] = []
        self._avoided: set[str] = set()  # quarantined nodes
        self._count = (0, 0)  # workers alive, wanted
        self._in_a_row = self._failed_starts = 0
        self._died = self._worked = self._committed = False
        self._outcome = Outcome()

    def run(self) -> Outcome:
        """Return when every shard is committed or given up. Raises UserError if no worker can work."""
        try:
            while self._fresh or self._retries or self._leased():
                self._start_workers()
                for worker in self._workers:
                    self._lease(worker)
                self._transport.wait(self._receive)
                for worker in [w for w in self._workers if (w.failed or w.quarantined) and not w.leased]:
                    self._remove(worker)
                self._give_up_the_rest()
        except BaseException:
            self._transport.close(at_once=True)
            raise
        self._transport.close(at_once=False)
        return self._outcome

    def _emit(self, event: str, by: Worker | None = None, **fields: Any) -> None:
        if by is not None and by.seat is not None:
            fields.update(worker=by.process, node=by.seat.node, device=by.seat.device)
        self._on_event(Event(event=event, **fields))

    def _leased(self) -> int:
        return sum(len(worker.leased) for worker in self._workers)

    # ---- workers

    def _start_workers(self) -> None:
        alive = sum(worker.ready and not worker.failed for worker in self._workers)
        left = len(self._fresh) + len(self._retries) + self._leased()
        wanted = min(self._transport.wanted(alive, self._avoided), left)
        if (alive, wanted) != self._count:
            self._count = (alive, wanted)
            self._emit("workers", alive=alive, wanted=wanted)
        for _ in range(wanted - len(self._workers)):
            self._workers.append(self._transport.start(self._avoided))

    def _placed(self, worker: Worker, process: str, node: str, device: str) -> None:
        """Give a worker a seat: one that another worker has left, else a new one."""
        taken = {other.seat for other in self._workers}
        same = [seat for seat in self._seats if (seat.node, seat.device) == (node, device)]
        seat = next((seat for seat in same if seat not in taken), None)
        if seat is None:
            name = f"{device} of {node}" + (f", worker {len(same)}" if same else "")
            seat = Seat(node, device, name, quarantined=node in self._avoided)
            self._seats.append(seat)
        worker.process, worker.seat = process, seat

    def _not_started(self, worker: Worker, failure: Failure) -> None:
        """A worker raised an exception or died before it was ready. Raises UserError if none can be started."""
        worker.failed = True
        self._failed_starts += 1
        seat = worker.seat
        others = [other for other in self._workers if not other.failed and other.seat is not None]
        ready = [other.seat.node for other in others if other.ready and other.seat is not None]
        self._count_failure(failure)
        if seat is not None:
            seat.failed_starts += failure.kind != "death"
            if failure.kind == "node" and seat.node not in ready:
                self._quarantine_node(seat.node, failure)
            elif failure.kind == "node" or (seat.failed_starts >= SEAT_LIMIT and ready):
                self._quarantine(seat.name, [seat], "cannot work", failure.reason)
        if not self._worked and not others and self._failed_starts >= FAILED_STARTS:
            raise UserError(
                f"no worker could be started ({self._failed_starts} attempts failed, the last with: {failure.reason[-500:]}); fix "
                f"the cause and run the same command again"
            )

    def _remove(self, worker: Worker) -> None:
        """Stop a worker; `_start_workers` starts another one if it is needed."""
        self._workers.remove(worker)
        block = worker.seat is not None and worker.seat.quarantined and worker.seat.node not in self._avoided
        self._transport.stop(worker, block=block)
        if worker.ready:
            self._emit("left", worker)

    # ---- leases

    def _waits(self, seat: Seat) -> bool:
        """Whether a seat gets no shard now: it is suspect, and another one is not."""
        if seat.quarantined:
            return True
        others = (worker.seat for worker in self._workers if not worker.failed)
        return seat.suspect and any(other is not None and not other.suspect for other in others)

    def _lease(self, worker: Worker) -> None:
        """Give a worker its next shard. It samples one shard at a time, while up to two are being committed."""
        if worker.seat is None or not worker.ready or worker.failed or self._waits(worker.seat):
            return
        if worker.sampling is None and len(worker.committing) < 2:
            shard = self._next_shard(worker.seat)
            if shard is not None:
                worker.sampling = shard
                self._attempts[shard] += 1
                self._transport.send(worker, shard)

    def _next_shard(self, seat: Seat) -> int | None:
        """A shard that failed elsewhere, else a fresh one, else one that failed here and that no other seat can try.

        Before the first commit, and on a seat that has just failed, a fresh shard goes first: a commit proves that work is possible.
        """
        retries = [shard for shard in self._retries if not self._is_spent(shard)]
        moved = [shard for shard in retries if not self._failed_at(seat, shard)]
        if self._fresh and (not moved or seat.failed or not self._committed):
            return self._fresh.popleft()
        seats = [w.seat for w in self._workers if w.seat not in (None, seat) and not w.failed]
        others = [other for other in seats if other is not None and not self._waits(other)]
        shards = moved or [shard for shard in retries if all(self._failed_at(o, shard) for o in others)]
        shard = min(shards, key=lambda shard: len(self._failures[shard]), default=None)
        if shard is not None:
            del self._retries[shard]
        return shard

    def _failed_at(self, seat: Seat, shard: int) -> bool:
        return any(other is seat for other, _ in self._failures[shard])

    def _is_spent(self, shard: int) -> bool:
        """Whether a shard has failed too often. An exception does not count if its seat is waiting, because it may be the cause."""
        failures = self._failures[shard]
        faults = sum(kind != "shard" for _, kind in failures)
        exceptions = sum(kind == "shard" and not self._waits(seat) for seat, kind in failures)
        return faults >= MAX_FAULTS or exceptions >= MAX_EXCEPTIONS

    # ---- messages

    def _receive(self, worker: Worker | None, message: Message, shard: int | None, content: Any) -> None:
        if worker is None:
            self._emit("notice", text=content)
        elif message == "placed":
            self._placed(worker, *content)
        elif message == "ready":
            assert worker.seat is not None
            worker.ready = self._worked = True
            self._failed_starts = worker.seat.failed_starts = 0
            self._emit("joined", worker)
        elif message == "sampled":
            self._emit("sampled", samples=content)
        elif message == "died":
            for leased in worker.leased:
                self._attempt_failed(worker, leased, Failure.death(content))
            if not worker.ready and not worker.failed:
                self._not_started(worker, Failure.death(content))
            self._remove(worker)
        elif shard is None:
            self._not_started(worker, content)
        elif message == "begun":
            worker.sampling = None
            worker.committing.append(shard)
        elif message == "committed":
            worker.committing.remove(shard)
            self._shard_committed(worker, shard)
            self._emit(
                "committed", worker, shard=shard, samples=content.samples, seconds=content.seconds.total
            )
        else:
            self._attempt_failed(worker, shard, content)

    def _shard_committed(self, worker: Worker, shard: int) -> None:
        assert worker.seat is not None
        self._failures.pop(shard, None)
        self._in_a_row, self._died, self._committed = 0, False, True
        worker.seat.failed.clear()
        worker.seat.elsewhere.clear()
        for seat in self._seats:
            if shard in seat.failed:
                seat.elsewhere.add(shard)
                if len(seat.elsewhere) >= SEAT_LIMIT and not seat.quarantined:
                    self._quarantine(
                        seat.name, [seat], "failed on shards that succeeded elsewhere", seat.error
                    )

    def _attempt_failed(self, worker: Worker, shard: int, failure: Failure) -> None:
        seat, died = worker.seat, failure.kind == "death"
        assert seat is not None
        if worker.sampling == shard:
            worker.sampling = None
        else:
            worker.committing.remove(shard)
        worker.failed = True
        self._failures[shard].append((seat, failure.kind))
        self._retries[shard] = failure.text
        if not died and failure.kind != "node":
            seat.failed.add(shard)
            seat.error = failure.reason
        again = not self._is_spent(shard) and not self._outcome.stopped
        fields = {"shard": shard, "attempt": self._attempts[shard], "died": died, "again": again}
        self._emit("missed", worker, text=failure.text, **fields)
        self._count_failure(failure)
        if failure.kind == "node":
            self._quarantine_node(seat.node, failure)

    # ---- consequences

    def _quarantine_node(self, node: str, failure: Failure) -> None:
        """Let nothing run on a node any more. Raises UserError if nothing else is left."""
        seats = [seat for seat in self._seats if seat.node == node and not seat.quarantined]
        self._avoided.add(node)
        self._quarantine(node, seats, "cannot work", failure.reason)
        if all(seat.quarantined for seat in self._seats):
            raise failure.for_the_user(self._out)

    def _quarantine(self, name: str, seats: Sequence[Seat], why: str, error: str) -> None:
        for seat in seats:
            seat.quarantined = True
        if seats:
            self._emit("quarantined", worker=name, text=f"{why}: {error}")

    def _count_failure(self, failure: Failure) -> None:
        """Count a failure since the last commit; after too many of them, lease no more shards."""
        self._in_a_row += 1
        self._died = self._died or failure.kind == "death"
        least, each = FAILURES if self._committed or self._died else FIRST_FAILURES
        if self._in_a_row >= max(least, each * max(self._count[1], 1)) and not self._outcome.stopped:
            since = "since the last commit" if self._committed else "and no shard was committed"
            self._outcome.stopped = f"{self._in_a_row} attempts in a row failed {since}: {failure.reason}"
            self._outcome.not_tried = len(self._fresh)
            self._fresh.clear()

    def _give_up_the_rest(self) -> None:
        """Give up the shards that failed too often, when nothing else is left; until then it may turn out that a seat is the cause."""
        over = self._outcome.stopped or not (self._fresh or self._leased())
        if over and (self._outcome.stopped or all(map(self._is_spent, self._retries))):
            for shard, error in self._retries.items():
                self._outcome.failed[shard] = error
                self._emit("failed", shard=shard, text=error)
            self._retries.clear()
