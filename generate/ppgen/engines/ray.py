"""The engine on Ray: one actor a worker, one shard each in the making and one being committed.

Plain Ray Core. Actors write their shards themselves and answer with small records, so no pixel passes through Ray. A shard
whose worker dies goes back into our own queue and from there to any live worker: Ray restarts nothing by itself, because
restarted actors keep tasks that nobody else may take.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from ppcore.errors import UserError
from ppgen.engines.base import Notice, OnEvent, Sampled, Summary, Workers
from ppgen.engines.cluster import Reservation, capacity, cluster, load_ray, make_reservation
from ppgen.engines.leases import Failure, ShardQueue
from ppgen.engines.ray_actor import GROUPS, WorkerActor
from ppgen.shards import Job, ShardCommit

_POLL_S = 1.0  # how often progress is asked for
_REVIEW_S = 5.0  # how often nodes that joined are looked for
_GRACE_S = 5.0
_MAX_FAILED_STARTS = 3  # workers in a row that died or failed before they were ready, while none works
_REASON = 500  # characters kept of why a worker failed to start


class RayEngine:
    """Runs shards on Ray.

    Args:
        workers: how many; None is as many as the cluster holds, and more when nodes join.
        cpus_per_worker, gpus_per_worker: reserved for each; None GPUs is one where the device is a GPU.
        address: of a running cluster, `auto` for the one of this machine; None starts a local one for the run.

    Raises:
        UserError: Ray is not installed.
    """

    def __init__(
        self,
        workers: int | None = None,
        cpus_per_worker: float = 1.0,
        gpus_per_worker: float | None = None,
        address: str | None = None,
    ) -> None:
        load_ray()
        self._count, self._address = workers, address
        self._cpus, self._gpus = cpus_per_worker, gpus_per_worker
        self.workers = f"{f'{workers} workers' if workers else 'as many workers as have room'} on Ray"

    def connected(self) -> AbstractContextManager[object]:
        """A connection to the cluster that was named; a wrong address is found out here."""
        return nullcontext() if self._address is None else cluster(self._address)

    def run(self, job: Job, shards: Sequence[int], on_event: OnEvent) -> Summary:
        """See :class:`ppgen.engines.base.Engine`."""
        count = min(self._count or 1, len(shards))
        with cluster(self._address, count * self._cpus) as grows:
            reservation = make_reservation(job.source.device, self._cpus, self._gpus)
            if not grows and capacity(reservation) == 0:
                raise UserError(
                    f"this machine has no room for a worker of {reservation}; ask for less with --cpus-per-worker or "
                    f"--gpus-per-worker, or give the --address of a cluster"
                )
            queue = ShardQueue(shards, job.out, on_event)
            _Scheduler(job, queue, on_event, self._count, reservation).run()
            return queue.summary


@dataclass(eq=False)
class _ActorHandle:
    """The driver's view of one actor.

    Attributes:
        where: host and process, known once it is ready for work.
        sampling: the shard being sampled.
        committing: shards sampled and not yet committed.
        reported: samples of the shard being sampled that were reported already.
        asked: whether a request for progress is under way.
    """

    actor: Any
    where: str = ""
    sampling: int | None = None
    committing: list[int] = field(default_factory=list)
    reported: int = 0
    asked: bool = False

    @property
    def leased(self) -> list[int]:
        return self.committing + ([] if self.sampling is None else [self.sampling])


class _Scheduler:
    """Leases shards to actors, receives their answers, and starts others in the place of lost ones."""

    def __init__(
        self, job: Job, queue: ShardQueue, on_event: OnEvent, workers: int | None, reservation: Reservation
    ) -> None:
        self._job, self._queue, self._on_event, self._workers = job, queue, on_event, workers
        self._reservation = reservation
        reserved: dict[str, Any] = {"num_cpus": reservation.cpus, "num_gpus": reservation.gpus}
        once: dict[str, Any] = {"max_restarts": 0, "max_task_retries": 0, "concurrency_groups": GROUPS}
        self._ray = load_ray()
        self._actor: Any = self._ray.remote(**reserved, **once)(WorkerActor)
        self._handles: list[_ActorHandle] = []
        self._answers: dict[Any, tuple[_ActorHandle, Callable[[_ActorHandle, Any], None]]] = {}
        self._wanted = 0
        self._failed_starts = 0
        self._review_at = self._poll_at = 0.0
        self._waiting_noticed = False

    def run(self) -> None:
        """Until every shard is committed or has failed for good. Raises UserError."""
        try:
            while self._queue or self._leased():
                now = time.monotonic()
                if now >= self._review_at:
                    self._review_at = now + _REVIEW_S
                    self._start_workers()
                if now >= self._poll_at:
                    self._poll_at = now + _POLL_S
                    self._poll()
                for handle in self._handles:
                    self._lease(handle)
                self._receive()
        finally:
            self._stop_workers()

    def _leased(self) -> int:
        return sum(len(handle.leased) for handle in self._handles)

    # ---- workers

    def _start_workers(self) -> None:
        """Create actors up to the number wanted; Ray places them when and where there is room."""
        space = capacity(self._reservation)
        if space == 0 and not self._waiting_noticed:
            self._waiting_noticed = True
            self._on_event(
                Notice(f"no node of the Ray cluster offers {self._reservation}; waiting for one to join")
            )
        left = len(self._queue) + self._leased()
        self._wanted = min(self._workers or max(space, 1), left)
        folder = os.getcwd()
        path = [os.path.abspath(entry) for entry in sys.path]
        while len(self._handles) < self._wanted:
            handle = _ActorHandle(self._actor.remote(self._job, folder, path))
            self._handles.append(handle)
            self._expect(handle, handle.actor.load.remote(), self._loaded)

    def _drop(self, handle: _ActorHandle, why: str) -> None:
        """Put a lost worker's shards back and make room for another."""
        self._ray.kill(handle.actor)  # Ray may only have lost sight of it
        self._handles.remove(handle)
        self._answers = {ref: entry for ref, entry in self._answers.items() if entry[0] is not handle}
        for shard in handle.leased:
            self._queue.lost(shard, f"{why}\nits worker on {handle.where} was lost")
        if handle.where:
            self._review_at = 0.0
            return
        self._failed_starts += 1
        if self._failed_starts >= _MAX_FAILED_STARTS and not any(other.where for other in self._handles):
            reason = " ".join(why.split())[-_REASON:]
            raise UserError(
                f"no Ray worker could be started ({self._failed_starts} tries failed, the last with: {reason}); mend that and run "
                f"the same command again"
            )

    def _stop_workers(self) -> None:
        """Stop all actors and wait until they are gone, so that nothing is written after the run."""
        for handle in self._handles:
            self._ray.kill(handle.actor)
        if self._answers:
            self._ray.wait(list(self._answers), num_returns=len(self._answers), timeout=_GRACE_S)

    # ---- work

    def _lease(self, handle: _ActorHandle) -> None:
        """One shard being sampled and one being committed, at most."""
        if self._queue and handle.where and handle.sampling is None and len(handle.committing) < 2:
            shard = self._queue.lease()
            handle.sampling, handle.reported = shard, 0
            self._expect(handle, handle.actor.sample.remote(shard), self._sampled)

    def _poll(self) -> None:
        alive = 0
        for handle in self._handles:
            alive += bool(handle.where)
            if handle.sampling is not None and not handle.asked:
                handle.asked = True
                self._expect(
                    handle,
                    handle.actor.progress.options(concurrency_group="progress").remote(),
                    self._progressed,
                )
        self._on_event(Workers(alive, self._wanted))

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
                self._drop(handle, str(error))
            else:
                then(handle, answer)

    def _loaded(self, handle: _ActorHandle, answer: str | Failure) -> None:
        if isinstance(answer, Failure):
            if isinstance(answer.error, UserError):
                raise answer.error
            self._drop(handle, answer.traceback)
        else:
            handle.where = answer
            self._failed_starts = 0

    def _progressed(self, handle: _ActorHandle, samples: int) -> None:
        handle.asked = False
        if handle.sampling is not None and samples > handle.reported:
            self._on_event(Sampled(samples - handle.reported))
            handle.reported = samples

    def _sampled(self, handle: _ActorHandle, answer: int | Failure) -> None:
        shard, handle.sampling = handle.sampling, None
        assert shard is not None
        if isinstance(answer, Failure):
            self._queue.failed(shard, answer)
            return
        self._on_event(Sampled(answer - handle.reported))
        handle.committing.append(shard)
        committed = handle.actor.commit.options(concurrency_group="commit").remote(shard)
        self._expect(handle, committed, lambda handle, answer: self._committed(handle, shard, answer))

    def _committed(self, handle: _ActorHandle, shard: int, answer: ShardCommit | Failure) -> None:
        handle.committing.remove(shard)
        if isinstance(answer, Failure):
            self._queue.failed(shard, answer)
        else:
            self._queue.committed(shard, answer)
