"""The driver's side of the Ray engine: starts actors, leases shards to them, receives their answers, replaces them."""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ppcore.errors import UserError
from ppgen.engines.base import Notice, OnEvent, Sampled, Workers
from ppgen.engines.failures import Failure, WorkerLocation, last_line
from ppgen.engines.leases import Leases
from ppgen.engines.ray import shell
from ppgen.engines.ray.actor import WorkerActor
from ppgen.engines.ray.cluster import Reservation, capacity, load_ray
from ppgen.shards import Job, ShardCommit

_POLL_S = 1.0  # how often progress is asked for
_REVIEW_S = 5.0  # how often nodes that joined are looked for
_REMIND_S = 30.0  # how often a run without a single worker says so
_GRACE_S = 5.0


@dataclass(frozen=True)
class WorkerRange:
    """How many workers are wanted.

    Attributes:
        least: asked for even where the cluster has no room for them yet, so that an autoscaler makes some.
        most: never more; up to it twice as many are asked for as there are. None asks for as many as have room.
    """

    least: int = 1
    most: int | None = None

    def __str__(self) -> str:
        if self.least == self.most:
            return f"{self.least} worker{'s' if self.least > 1 else ''}"
        least = f"at least {self.least}, " if self.least > 1 else ""
        return f"{least}at most {self.most} workers" if self.most else f"{least}as many workers as have room"

    def wanted(self, room: int, alive: int) -> int:
        """How many to ask for now, that so many are alive and the cluster has room for so many."""
        if self.most is None:
            return max(room, self.least)
        return max(self.least, min(self.most, max(room, 2 * alive)))


@dataclass(eq=False)
class _ActorHandle:
    """The driver's view of one actor.

    Attributes:
        place, node_id: known once it has started somewhere.
        ready: whether its generator is loaded.
        failed: whether it raised: it gets nothing more and is replaced once it holds nothing.
        parked: kept, idle, so that nobody else gets its GPU.
        sampling: the shard being sampled.
        committing: shards sampled and not yet committed.
        reported: samples of the shard being sampled that were reported already.
        asked: whether a request for progress is under way.
    """

    actor: Any
    place: WorkerLocation | None = None
    node_id: str = ""
    ready: bool = False
    failed: bool = False
    parked: bool = False
    sampling: int | None = None
    committing: list[int] = field(default_factory=list)
    reported: int = 0
    asked: bool = False

    @property
    def leased(self) -> list[int]:
        return self.committing + ([] if self.sampling is None else [self.sampling])


class Scheduler:
    """Leases shards to actors, receives their answers, and starts others in the place of lost ones."""

    def __init__(
        self, job: Job, leases: Leases, on_event: OnEvent, workers: WorkerRange, reservation: Reservation
    ) -> None:
        self._job, self._leases, self._on_event, self._range = job, leases, on_event, workers
        self._reservation = reservation
        reserved: dict[str, Any] = {"num_cpus": reservation.cpus, "num_gpus": reservation.gpus}
        once: dict[str, Any] = {"max_restarts": 0, "max_task_retries": 0, "concurrency_groups": shell.GROUPS}
        self._ray = load_ray()
        self._ray.cloudpickle.register_pickle_by_value(shell)
        self._actor: Any = self._ray.remote(**reserved, **once)(shell.Shell)
        self._handles: list[_ActorHandle] = []
        self._answers: dict[Any, tuple[_ActorHandle, Callable[[_ActorHandle, Any], None]]] = {}
        self._node_ids: dict[str, str] = {}  # by the name of the node
        self._wanted = 0
        self._review_at = self._poll_at = self._remind_at = 0.0

    def run(self) -> None:
        """Until every shard is committed or given up. Raises UserError."""
        try:
            while self._leases or self._leased():
                now = time.monotonic()
                if now >= self._review_at:
                    self._review_at = now + _REVIEW_S
                    self._start_workers()
                if now >= self._poll_at:
                    self._poll_at = now + _POLL_S
                    self._poll(now)
                for handle in self._handles:
                    self._lease(handle)
                self._receive()
                for handle in [handle for handle in self._handles if handle.failed and not handle.leased]:
                    self._retire(handle)
        finally:
            self._stop_workers()

    def _leased(self) -> int:
        return sum(len(handle.leased) for handle in self._handles)

    # ---- workers

    def _start_workers(self) -> None:
        """Create actors up to the number wanted; Ray places them when and where there is room."""
        avoided = self._avoided()
        working = [handle for handle in self._handles if not handle.parked]
        room = capacity(self._reservation, avoided) - (len(self._handles) - len(working))
        alive = sum(handle.ready for handle in working)
        self._wanted = min(self._range.wanted(room, alive), len(self._leases) + self._leased())
        path = [os.path.abspath(entry) for entry in sys.path]
        elsewhere = {"label_selector": {"ray.io/node-id": f"!in({','.join(avoided)})"}} if avoided else {}
        for _ in range(self._wanted - len(working)):
            handle = _ActorHandle(self._actor.options(**elsewhere).remote(os.getcwd(), path))
            self._handles.append(handle)
            self._expect(handle, handle.actor.where.remote(), self._placed)

    def _avoided(self) -> list[str]:
        """Ray's ids of the quarantined nodes."""
        return [self._node_ids[name] for name in self._leases.quarantined_nodes() if name in self._node_ids]

    def _may_start_more(self) -> bool:
        """Whether workers are being started or, once any has worked, there is room where nothing is quarantined."""
        parked = sum(handle.parked for handle in self._handles)
        if any(handle.place is not None and not (handle.ready or handle.parked) for handle in self._handles):
            return True
        return self._leases.worked and capacity(self._reservation, self._avoided()) > parked

    def _lose(self, handle: _ActorHandle, why: str) -> None:
        """Put a lost worker's shards back and make room for another."""
        leased, place = handle.leased, handle.place
        self._remove(handle)
        for shard in leased:
            assert place is not None
            self._leases.lost(place, shard, f"{why}\nits worker on {place} was lost")
        if not handle.ready and not handle.parked:
            self._leases.not_started(place, why, self._may_start_more())
        if place is not None:
            self._leases.left(place)

    def _retire(self, handle: _ActorHandle) -> None:
        """Replace a worker that has raised; on a quarantined seat it stays, idle, and holds what it reserved."""
        assert handle.place is not None
        if self._leases.is_quarantined(handle.place) and handle.node_id not in self._avoided():
            handle.parked, handle.failed = True, False
            self._review_at = 0.0
            return
        self._remove(handle)
        self._leases.left(handle.place)

    def _remove(self, handle: _ActorHandle) -> None:
        self._ray.kill(handle.actor)  # Ray may only have lost sight of it
        self._handles.remove(handle)
        self._answers = {ref: entry for ref, entry in self._answers.items() if entry[0] is not handle}
        self._review_at = 0.0

    def _stop_workers(self) -> None:
        """Stop all actors and wait until they are gone, so that nothing is written after the run."""
        for handle in self._handles:
            self._ray.kill(handle.actor)
        if self._answers:
            self._ray.wait(list(self._answers), num_returns=len(self._answers), timeout=_GRACE_S)

    # ---- work

    def _lease(self, handle: _ActorHandle) -> None:
        """One shard being sampled and one being committed, at most."""
        if handle.place is None or not handle.ready or handle.failed or handle.parked:
            return
        if self._leases.is_quarantined(handle.place):
            handle.failed = True
            return
        if handle.sampling is not None or len(handle.committing) >= 2:
            return
        shard = self._leases.lease(handle.place)
        if shard is not None:
            handle.sampling, handle.reported = shard, 0
            self._expect(handle, handle.actor.sample.remote(shard), self._sampled)

    def _poll(self, now: float) -> None:
        alive = 0
        for handle in self._handles:
            alive += handle.ready and not handle.parked
            if handle.sampling is not None and not handle.asked:
                handle.asked = True
                progress = handle.actor.progress.options(concurrency_group="progress")
                self._expect(handle, progress.remote(), self._progressed)
        self._on_event(Workers(alive, self._wanted))
        if alive == 0 and now >= self._remind_at:
            self._remind(self._remind_at == 0)
            self._remind_at = now + _REMIND_S

    def _remind(self, first: bool) -> None:
        """Say what a run without a worker is waiting for; it waits as long as it takes."""
        if capacity(self._reservation, self._avoided()) == 0:
            text = f"no node of the Ray cluster offers {self._reservation}; waiting for one to join"
            self._on_event(Notice(f"{text} ({self._wanted} asked for; Ctrl-C stops)"))
        elif not first and not any(handle.place is not None for handle in self._handles):
            self._on_event(Notice(f"waiting for room for a worker of {self._reservation} (Ctrl-C stops)"))

    def _expect(self, handle: _ActorHandle, ref: Any, then: Callable[[_ActorHandle, Any], None]) -> None:
        self._answers[ref] = (handle, then)

    def _receive(self) -> None:
        """Wait a moment for the next answer of any worker."""
        if not self._answers:
            time.sleep(0.1)  # every worker has died; the next review starts others
            return
        ready, _ = self._ray.wait(list(self._answers), timeout=_POLL_S)
        for ref in ready:
            handle, then = self._answers.pop(ref)
            try:
                answer = self._ray.get(ref)
            except self._ray.exceptions.RayError as error:
                self._lose(handle, str(error))
            else:
                then(handle, answer)

    def _placed(self, handle: _ActorHandle, answer: tuple[str, str, str, str]) -> None:
        handle.place, handle.node_id = WorkerLocation(*answer[:3]), answer[3]
        self._node_ids[handle.place.node] = handle.node_id
        self._leases.starting(handle.place)
        if self._leases.is_quarantined(handle.place):
            handle.failed = True
            return
        share = self._reservation.gpus if 0 < self._reservation.gpus < 1 else 1.0
        arguments = pickle.dumps((self._job, share))
        load = handle.actor.load.remote(WorkerActor.__module__, WorkerActor.__name__, arguments)
        self._expect(handle, load, self._loaded)

    def _loaded(self, handle: _ActorHandle, answer: Failure | shell.Broken | None) -> None:
        assert handle.place is not None
        if answer is None:
            handle.ready = True
            self._leases.ready(handle.place)
            self._leases.require_workers(self._may_start_more())
            return
        if isinstance(answer, shell.Broken):
            complaint = UserError(
                f"{handle.place.node} cannot run workers ({last_line(answer.reason)}); install the same packages on every node"
            )
            answer = Failure(complaint, answer.reason, "node")
        handle.failed = handle.ready = True  # so that it is no longer one of those being started
        self._leases.not_started(handle.place, answer, self._may_start_more())

    def _progressed(self, handle: _ActorHandle, samples: int) -> None:
        handle.asked = False
        if handle.sampling is not None and samples > handle.reported:
            self._on_event(Sampled(samples - handle.reported))
            handle.reported = samples

    def _sampled(self, handle: _ActorHandle, answer: int | Failure) -> None:
        shard, handle.sampling = handle.sampling, None
        assert shard is not None
        if isinstance(answer, Failure):
            self._failed(handle, shard, answer)
            return
        self._on_event(Sampled(answer - handle.reported))
        handle.committing.append(shard)
        committed = handle.actor.commit.options(concurrency_group="commit").remote(shard)
        self._expect(handle, committed, lambda handle, answer: self._committed(handle, shard, answer))

    def _committed(self, handle: _ActorHandle, shard: int, answer: ShardCommit | Failure) -> None:
        handle.committing.remove(shard)
        assert handle.place is not None
        if isinstance(answer, Failure):
            self._failed(handle, shard, answer)
        else:
            self._leases.committed(handle.place, shard, answer)

    def _failed(self, handle: _ActorHandle, shard: int, failure: Failure) -> None:
        assert handle.place is not None
        handle.failed = True
        self._leases.failed(handle.place, shard, failure)
        self._leases.require_workers(self._may_start_more())
