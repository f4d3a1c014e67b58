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
from dataclasses import dataclass, field
from typing import Any

from ppcore.errors import UserError
from ppgen.engines.base import Notice, OnEvent, Queue, Sampled, Summary, Workers, refuse_hopeless
from ppgen.engines.cluster import Need, cluster, ray, room, settle_need
from ppgen.engines.ray_actor import GROUPS, Hand, Trouble
from ppgen.shards import Job, ShardCommit

_TICK_S = 1.0  # how often progress is asked for
_REVIEW_S = 5.0  # how often nodes that joined are looked for
_GRACE_S = 5.0
_MAX_STILLBORN = 3  # workers in a row that died or failed before they were ready, while none works
_REASON = 500  # characters of a worker's last words


class RayEngine:
    """Runs shards on Ray.

    Args:
        workers: how many; None is as many as the cluster holds, and more when nodes join.
        cpus_per_worker, gpus_per_worker: reserved for each; None GPUs is one where the device is a GPU.
        address: of a running cluster, `auto` for the one of this machine; None starts a local one for the run.
    """

    def __init__(
        self,
        workers: int | None = None,
        cpus_per_worker: float = 1.0,
        gpus_per_worker: float | None = None,
        address: str | None = None,
    ) -> None:
        self._workers, self._address = workers, address
        self._cpus, self._gpus = cpus_per_worker, gpus_per_worker

    def run(self, job: Job, shards: Sequence[int], on_event: OnEvent) -> Summary:
        """See :class:`ppgen.engines.base.Engine`."""
        count = min(self._workers or 1, len(shards))
        with cluster(self._address, count * self._cpus) as grows:
            need = settle_need(job.source.device, self._cpus, self._gpus)
            if not grows and room(need) == 0:
                raise UserError(
                    f"this machine has no room for a worker of {need}; ask for less with --cpus-per-worker or "
                    f"--gpus-per-worker, or give the --address of a cluster"
                )
            queue = Queue(shards, on_event)
            _Crew(job, queue, on_event, self._workers, need).run()
            return queue.summary


@dataclass(eq=False)
class _Member:
    """The driver's view of one actor.

    Attributes:
        where: host and process, known once it is ready for work.
        sampling: the shard being sampled.
        committing: shards sampled and not yet committed.
        reported: samples of the shard being sampled that were reported already.
        asked: whether a question about progress is under way.
    """

    actor: Any
    where: str = ""
    sampling: int | None = None
    committing: list[int] = field(default_factory=list)
    reported: int = 0
    asked: bool = False

    @property
    def unfinished(self) -> list[int]:
        return self.committing + ([] if self.sampling is None else [self.sampling])


class _Crew:
    """Feeds the actors, hears their answers, buries the dead and hires others."""

    def __init__(self, job: Job, queue: Queue, on_event: OnEvent, workers: int | None, need: Need) -> None:
        self._job, self._queue, self._on_event, self._workers = job, queue, on_event, workers
        self._need = need
        reserved: dict[str, Any] = {"num_cpus": need.cpus, "num_gpus": need.gpus}
        once: dict[str, Any] = {"max_restarts": 0, "max_task_retries": 0, "concurrency_groups": GROUPS}
        self._actor: Any = ray.remote(**reserved, **once)(Hand)
        self._members: list[_Member] = []
        self._answers: dict[Any, tuple[_Member, Callable[[_Member, Any], None]]] = {}
        self._wanted = 0
        self._stillborn = 0
        self._review_at = self._tick_at = 0.0
        self._waiting_told = False

    def run(self) -> None:
        """Until every shard is committed or has failed for good. Raises UserError."""
        try:
            while self._queue or self._unfinished():
                now = time.monotonic()
                if now >= self._review_at:
                    self._review_at = now + _REVIEW_S
                    self._hire()
                if now >= self._tick_at:
                    self._tick_at = now + _TICK_S
                    self._tick()
                for member in self._members:
                    self._feed(member)
                self._hear()
        finally:
            self._dismiss()

    def _unfinished(self) -> int:
        return sum(len(member.unfinished) for member in self._members)

    # ---- workers

    def _hire(self) -> None:
        """Create actors up to the number wanted; Ray places them when and where there is room."""
        space = room(self._need)
        if space == 0 and not self._waiting_told:
            self._waiting_told = True
            self._on_event(Notice(f"no node of the Ray cluster offers {self._need}; waiting for one to join"))
        left = len(self._queue) + self._unfinished()
        self._wanted = min(self._workers or max(space, 1), left)
        folder = os.getcwd()
        path = [os.path.abspath(entry) for entry in sys.path]
        while len(self._members) < self._wanted:
            member = _Member(self._actor.remote(self._job, folder, path))
            self._members.append(member)
            self._expect(member, member.actor.load.remote(), self._loaded)

    def _bury(self, member: _Member, why: str) -> None:
        """Put a lost worker's shards back and make room for another."""
        ray.kill(member.actor)  # Ray may only have lost sight of it
        self._members.remove(member)
        self._answers = {ref: entry for ref, entry in self._answers.items() if entry[0] is not member}
        for shard in member.unfinished:
            self._queue.failed(shard, f"{why}\nits worker on {member.where} was lost")
        if member.where:
            self._review_at = 0.0
            return
        self._stillborn += 1
        if self._stillborn >= _MAX_STILLBORN and not any(other.where for other in self._members):
            reason = " ".join(why.split())[-_REASON:]
            raise UserError(
                f"no Ray worker could be started ({self._stillborn} tries failed, the last with: {reason}); mend that and run "
                f"the same command again"
            )

    def _dismiss(self) -> None:
        """Stop all actors and wait until they are gone, so that nothing is written after the run."""
        for member in self._members:
            ray.kill(member.actor)
        if self._answers:
            ray.wait(list(self._answers), num_returns=len(self._answers), timeout=_GRACE_S)

    # ---- work

    def _feed(self, member: _Member) -> None:
        """One shard being sampled and one being committed, at most."""
        if self._queue and member.where and member.sampling is None and len(member.committing) < 2:
            shard = self._queue.take()
            member.sampling, member.reported = shard, 0
            self._expect(member, member.actor.sample.remote(shard), self._sampled)

    def _tick(self) -> None:
        alive = 0
        for member in self._members:
            alive += bool(member.where)
            if member.sampling is not None and not member.asked:
                member.asked = True
                self._expect(member, member.actor.progress.remote(), self._progressed)
        self._on_event(Workers(alive, self._wanted))

    def _expect(self, member: _Member, ref: Any, then: Callable[[_Member, Any], None]) -> None:
        self._answers[ref] = (member, then)

    def _hear(self) -> None:
        """Wait a moment for the next answer of any worker."""
        if not self._answers:
            time.sleep(0.1)  # every worker has died; the next review hires others
            return
        ready, _ = ray.wait(list(self._answers), timeout=_TICK_S)
        for ref in ready:
            member, then = self._answers.pop(ref)
            try:
                answer = ray.get(ref)
            except ray.exceptions.RayError as error:
                self._bury(member, str(error))
            else:
                then(member, answer)

    def _loaded(self, member: _Member, answer: str | Trouble) -> None:
        if isinstance(answer, Trouble):
            if isinstance(answer.error, UserError):
                raise answer.error
            self._bury(member, answer.text)
        else:
            member.where = answer
            self._stillborn = 0

    def _progressed(self, member: _Member, samples: int) -> None:
        member.asked = False
        if member.sampling is not None and samples > member.reported:
            self._on_event(Sampled(samples - member.reported))
            member.reported = samples

    def _sampled(self, member: _Member, answer: int | Trouble) -> None:
        shard, member.sampling = member.sampling, None
        assert shard is not None
        if isinstance(answer, Trouble):
            self._failed(shard, answer)
            return
        self._on_event(Sampled(answer - member.reported))
        member.committing.append(shard)
        committed = member.actor.commit.remote(shard)
        self._expect(member, committed, lambda member, answer: self._committed(member, shard, answer))

    def _committed(self, member: _Member, shard: int, answer: ShardCommit | Trouble) -> None:
        member.committing.remove(shard)
        if isinstance(answer, Trouble):
            self._failed(shard, answer)
        else:
            self._queue.committed(shard, answer)

    def _failed(self, shard: int, trouble: Trouble) -> None:
        refuse_hopeless(trouble.error, self._job.out)
        self._queue.failed(shard, trouble.text)
