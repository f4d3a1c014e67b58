"""The rules of every engine: who may have which shard, what a failure counts against, and when to stop. No process in them.

Failures of the machine (a worker's death, a CUDA error, a full disk on one node) never count against a shard. An exception may be
the shard's fault or its place's, so it stays open until others tell: a commit at the place that raised proves the place and is held
against the shard; a commit of the shard elsewhere proves the shard and is held against the place. A shard is given up when it has
raised on three workers; a place is quarantined when its shards succeed elsewhere. Everything stops when one failure follows
another and nothing is committed.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass

from ppcore.errors import UserError
from ppgen.engines.base import Committed, Failed, Joined, Left, Missed, OnEvent, Quarantined, Retried, Summary
from ppgen.engines.failures import Failure, WorkerLocation, last_line
from ppgen.engines.places import Places, Record, Seat
from ppgen.shards import ShardCommit

MAX_RAISES = 3  # different workers on which a shard may raise
MAX_LOSSES_AHEAD = 3  # workers a shard may lose before it has to wait for all others
FIRST_FAILURES = (8, 4)  # in a row while nothing was ever committed: at least so many, and so many a worker
FAILURES = (20, 5)  # the same once something was, and where workers die
FAILED_STARTS = 3  # of workers in a row, while none works


@dataclass(eq=False)
class _Raise:
    """An exception of a shard; `held` against it once its seat has committed another."""

    seat: Seat
    held: bool = False


class Leases:
    """The shards still to do, and what became of those handed out.

    Args:
        shards: what to do, in order.
        out: the directory, for messages.
        on_event: told of commits, retries, failures and quarantined places.

    Attributes:
        worked: whether any worker was ever ready.
        summary: what came of it.
    """

    def __init__(self, shards: Iterable[int], out: str, on_event: OnEvent) -> None:
        self._fresh = deque(shards)
        self._again: dict[int, str] = {}  # shards to be tried again -> their last error
        self._leased: dict[int, Seat] = {}
        self._tried: dict[
            int, set[Seat]
        ] = {}  # where shards came to nothing with an exception, whoever is to blame
        self._raises: dict[int, list[_Raise]] = {}
        self._attempts: Counter[int] = Counter()
        self._losses: Counter[int] = Counter()
        self._places = Places()
        self._out, self._on_event = out, on_event
        self._in_a_row = 0  # failures since the last commit
        self._died = False  # whether a worker died among them
        self._failed_starts = 0
        self._complaint: UserError | None = None  # of the last node where nothing works
        self.worked = False
        self.summary = Summary()

    def __len__(self) -> int:
        """Shards waiting for a worker."""
        return len(self._fresh) + len(self._again)

    # ---- workers

    def starting(self, place: WorkerLocation) -> None:
        """A worker is being started."""
        self._places.join(place)

    def ready(self, place: WorkerLocation) -> None:
        """It can take shards."""
        self._places.ready(place)
        self.worked, self._failed_starts = True, 0
        self._on_event(Joined(place))

    def left(self, place: WorkerLocation) -> None:
        """A worker is gone; its leases have ended."""
        self._places.leave(place)
        self._on_event(Left(place))

    def is_quarantined(self, place: WorkerLocation) -> bool:
        """Whether a worker that was started sits where nothing is leased any more."""
        seat = self._places.of(place)
        return seat is not None and seat.quarantined

    def quarantined_nodes(self) -> list[str]:
        """Nodes where no worker should be started."""
        return self._places.quarantined_nodes()

    def not_started(self, place: WorkerLocation | None, failure: Failure | str, more: bool) -> None:
        """A worker did not become ready.

        Args:
            place: None where it died before it could tell.
            failure: what it raised, or why it died.
            more: whether others are being started.

        Raises:
            UserError: none works and none is likely to.
        """
        self._failed_starts += 1
        reason = failure.reason if isinstance(failure, Failure) else last_line(failure)
        seat = None if place is None else self._places.of(place)
        told = isinstance(failure, Failure) and failure.blame == "node"
        if isinstance(failure, Failure) and told:
            self._complaint = failure.for_the_user(self._out)
        if seat is not None and (told or self._places.not_started(seat, reason, isinstance(failure, str))):
            others_work_there = any(other.node is seat.node for other in self._places.live())
            self._quarantine(seat.own if others_work_there or not told else seat.node, reason)
        self._missed(reason, died=isinstance(failure, str))
        self.require_workers(more)
        if self.worked or more or self._places.live():
            return
        if self._failed_starts >= FAILED_STARTS:
            raise UserError(
                f"no worker could be started ({self._failed_starts} tries failed, the last with: {reason[-500:]}); mend that and "
                f"run the same command again"
            )

    def require_workers(self, more: bool) -> None:
        """Stop where every place is quarantined; `more`: whether workers are or can be started elsewhere. Raises UserError."""
        if more or not self.summary.quarantined or self._places.live() or not (self or self._leased):
            return
        if self._complaint is not None:
            raise self._complaint
        self._stop("every place is quarantined")

    # ---- shards

    def lease(self, place: WorkerLocation) -> int | None:
        """The next shard for a worker, which must end in `committed`, `failed` or `lost`; None while there is none for it."""
        seat = self._places.of(place)
        assert seat is not None, place
        if not self._places.may_lease(seat):
            return None
        candidates = [(rank, shard) for shard in self._again if (rank := self._rank(shard, seat)) is not None]
        rank, shard = min(candidates, key=lambda pair: pair[0], default=(3, -1))
        if self._fresh and (rank > 1 or not self.summary.committed):  # does anything work at all?
            shard = self._fresh.popleft()
        elif shard >= 0:
            del self._again[shard]
        else:
            self._settle()  # who could have told more may have left
            return None
        self._leased[shard] = seat
        self._attempts[shard] += 1
        return shard

    def _rank(self, shard: int, seat: Seat) -> int | None:
        """How fit a failed shard is for a seat: 0 another node, 1 another seat, then new shards, 2 after all others; None not now."""
        if seat in self._tried.get(shard, ()):
            return None if self._is_untried_somewhere(shard) or self._is_deferred(shard) else 2
        if self._losses[shard] >= MAX_LOSSES_AHEAD:
            return 2
        return int(seat.node in {other.node for other in self._tried.get(shard, ())})

    def _is_untried_somewhere(self, shard: int) -> bool:
        tried = self._tried.get(shard, ())
        return any(seat.trusted and seat not in tried for seat in self._places.live())

    def _is_deferred(self, shard: int) -> bool:
        """Whether a shard waits for what others tell of the places where it raised."""
        return len(self._raises.get(shard, ())) >= MAX_RAISES and not self._is_untried_somewhere(shard)

    def committed(self, place: WorkerLocation, shard: int, commit: ShardCommit) -> None:
        """A worker has finished a shard."""
        seat = self._leased.pop(shard)
        self._raises.pop(shard, None)
        self._tried.pop(shard, None)
        self._in_a_row, self._died = 0, False
        for attempt in self._open():
            attempt.held = attempt.held or attempt.seat is seat
        for record in self._places.succeeded(seat, shard):
            self._quarantine(record, record.error, "failed on shards that succeeded elsewhere")
        self.summary.committed.append(shard)
        self._on_event(Committed(shard, commit, place))
        self._settle()

    def failed(self, place: WorkerLocation, shard: int, failure: Failure) -> None:
        """A worker raised. It is to be replaced."""
        seat = self._leased.pop(shard)
        self._on_event(Missed(place, shard, failure.traceback, died=False))
        self._tried.setdefault(shard, set()).add(seat)
        if failure.blame == "node":
            self._complaint = failure.for_the_user(self._out)
            self._quarantine(seat.node, failure.reason)
        else:
            self._places.missed(seat, shard, failure.reason, died=False)
        if failure.blame == "work" and not seat.quarantined:
            self._raises.setdefault(shard, []).append(_Raise(seat))
        self._retry(place, shard, failure.traceback)
        self._missed(failure.reason, died=False)
        self._settle()

    def lost(self, place: WorkerLocation, shard: int, reason: str) -> None:
        """The worker that had the shard has died."""
        self._on_event(Missed(place, shard, reason, died=True))
        self._places.missed(self._leased.pop(shard), shard, last_line(reason), died=True)
        self._losses[shard] += 1
        self._retry(place, shard, reason)
        self._missed(last_line(reason), died=True)
        self._settle()

    # ---- consequences

    def _open(self) -> Iterable[_Raise]:
        return (attempt for attempts in self._raises.values() for attempt in attempts)

    def _retry(self, place: WorkerLocation, shard: int, reason: str) -> None:
        self._again[shard] = reason
        if not self.summary.stopped and not self._is_deferred(shard):
            self.summary.retried += 1
            self._on_event(Retried(shard, self._attempts[shard], reason, place))

    def _is_last(self, shard: int) -> bool:
        """Whether nobody is left who could tell more of a shard that has raised often enough."""
        return not self._leased and not self._fresh and all(map(self._is_deferred, self._again))

    def _settle(self) -> None:
        """Give up the shards whose guilt is settled."""
        for shard in list(self._again):
            held = sum(attempt.held for attempt in self._raises.get(shard, ()))
            if held >= MAX_RAISES or self._is_last(shard) or self.summary.stopped:
                self._give_up(shard)

    def _give_up(self, shard: int) -> None:
        reason = self._again.pop(shard)
        self.summary.failed[shard] = reason
        self._on_event(Failed(shard, reason))

    def _missed(self, reason: str, died: bool) -> None:
        """Count one more failure; stop where it is one too many."""
        self._in_a_row += 1
        self._died = self._died or died
        never = not self.summary.committed and not self._died
        least, each = FIRST_FAILURES if never else FAILURES
        if self._in_a_row >= max(least, each * self._places.most):
            since = "" if not self.summary.committed else " since the last"
            self._stop(
                f"{self._in_a_row} workers in a row failed and no shard was committed{since}: {reason}"
            )

    def _quarantine(self, record: Record, error: str, why: str = "cannot work") -> None:
        if record.quarantined:
            return
        record.quarantined = True
        for attempts in self._raises.values():  # what raised here tells nothing of the shard
            attempts[:] = [a for a in attempts if a.held or not a.seat.quarantined]
        self.summary.quarantined[record.name] = error
        self._on_event(Quarantined(record.name, why, error))

    def _stop(self, why: str) -> None:
        """Lease nothing more: what was tried has failed, what was not is abandoned."""
        if self.summary.stopped:
            return
        self.summary.stopped = why
        self.summary.abandoned += len(self._fresh)
        self._fresh.clear()
        for shard in list(self._again):
            self._give_up(shard)
