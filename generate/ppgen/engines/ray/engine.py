"""The engine on Ray: one actor a worker, one shard each in the making and one being committed.

Plain Ray Core. Actors write their shards themselves and answer with small records, so no pixel passes through Ray. A shard
whose worker dies goes back into our own queue and from there to any live worker: Ray restarts nothing by itself, because
restarted actors keep tasks that nobody else may take.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from ppgen.engines.base import OnEvent, Summary
from ppgen.engines.leases import Leases
from ppgen.engines.ray.cluster import cluster, load_ray, make_reservation, require_room
from ppgen.engines.ray.scheduler import Scheduler, WorkerRange
from ppgen.shards import Job


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
        workers: int | WorkerRange | None = None,
        cpus_per_worker: float = 1.0,
        gpus_per_worker: float | None = None,
        address: str | None = None,
    ) -> None:
        load_ray()
        self._range = WorkerRange(workers, workers) if isinstance(workers, int) else workers or WorkerRange()
        self._address, self._cpus, self._gpus = address, cpus_per_worker, gpus_per_worker
        self.workers = f"{self._range} on Ray"

    def connected(self) -> AbstractContextManager[object]:
        """A connection to the cluster that was named; a wrong address is found out here."""
        return nullcontext() if self._address is None else cluster(self._address)

    def run(self, job: Job, shards: Sequence[int], on_event: OnEvent) -> Summary:
        """See :class:`ppgen.engines.base.Engine`."""
        count = min(self._range.least, len(shards))
        with cluster(self._address, count * self._cpus) as grows:
            reservation = make_reservation(job.source.device, self._cpus, self._gpus)
            require_room(reservation, grows)
            leases = Leases(shards, job.out, on_event)
            Scheduler(job, leases, on_event, self._range, reservation).run()
            return leases.summary
