"""Worker processes of this machine, fed over pipes."""

from __future__ import annotations

import multiprocessing
import os
import platform
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from ppcore.storage import KeptStderr, Store
from ppgen.engines.base import OnEvent, Sampled
from ppgen.engines.failures import Failure, WorkerLocation
from ppgen.engines.gpus import gpu_share, limit_gpu_memory
from ppgen.engines.leases import Leases
from ppgen.shards import Job, ShardCommit, Worker

_GRACE_S = 10.0
_LOOK_S = 1.0


@dataclass(frozen=True)
class _Slot:
    """What a worker process is started on: its GPU by a name for CUDA_VISIBLE_DEVICES, and its share of it."""

    number: int
    gpu: str | None
    share: float


@dataclass(eq=False)
class _Process:
    """A worker process, the parent's end of its pipe, and the shards it holds.

    Attributes:
        ready: whether its generator is loaded.
        sampling: whether one of its shards is still being sampled.
        failed: whether it raised: it gets nothing more and is replaced once it holds nothing.
    """

    process: BaseProcess
    pipe: Connection
    slot: _Slot
    place: WorkerLocation
    ready: bool = False
    leased: list[int] = field(default_factory=list)
    sampling: bool = False
    failed: bool = False


class ProcessPool:
    """Spawned processes. One that dies or raises loses its shards to the others and is replaced.

    Not `concurrent.futures`: there a killed child breaks the whole pool, and children outlive a killed parent.

    Args:
        count: processes.
        gpus: names for CUDA_VISIBLE_DEVICES to spread them over; none where they work on the CPU.
    """

    def __init__(
        self, job: Job, leases: Leases, on_event: OnEvent, count: int, gpus: Sequence[str] = ()
    ) -> None:
        self._job, self._leases, self._on_event = job, leases, on_event
        self._workers: list[_Process] = []
        share = gpu_share(count, len(gpus))
        self._slots = [_Slot(k, gpus[k % len(gpus)] if gpus else None, share) for k in range(count)]

    def run(self) -> None:
        """Until every shard is committed or given up. Raises UserError."""
        try:
            while self._leases or any(worker.leased for worker in self._workers):
                self._fill()
                for worker in self._workers:
                    self._lease(worker)
                for ready in wait([worker.pipe for worker in self._workers], _LOOK_S):
                    self._receive(next(worker for worker in self._workers if worker.pipe is ready))
                for worker in [worker for worker in self._workers if worker.failed and not worker.leased]:
                    self._remove(worker)
        except BaseException:
            for worker in self._workers:
                worker.process.terminate()
            raise
        finally:
            self._stop()

    def _fill(self) -> None:
        """Start processes on free slots, as long as there is work for them."""
        wanted = len(self._leases) + sum(len(worker.leased) for worker in self._workers)
        taken = {worker.slot for worker in self._workers}
        for slot in [slot for slot in self._slots if slot not in taken][: max(wanted - len(taken), 0)]:
            self._start(slot)

    def _start(self, slot: _Slot) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(self._job, theirs, slot), daemon=True)
        process.start()
        theirs.close()  # so that the pipe ends when the child does
        device = self._job.source.device if slot.gpu is None else f"GPU {slot.gpu}"
        place = WorkerLocation(f"process {process.pid}", platform.node(), device)
        self._workers.append(_Process(process, ours, slot, place))
        self._leases.starting(place)

    def _lease(self, worker: _Process) -> None:
        """One shard being sampled and one being committed, at most."""
        if worker.failed or not worker.ready or worker.sampling or len(worker.leased) >= 2:
            return
        shard = self._leases.lease(worker.place)
        if shard is None:
            return
        worker.leased.append(shard)
        worker.sampling = True
        try:
            worker.pipe.send(shard)
        except OSError:
            return  # it has died; wait() reports the broken pipe and _receive puts its shards back

    def _receive(self, worker: _Process) -> None:
        """The next message of a worker; see :func:`_serve`."""
        try:
            kind, shard, content = worker.pipe.recv()
        except (EOFError, OSError):
            self._lose(worker)
            return
        if kind == "ready":
            worker.ready = True
            self._leases.ready(worker.place)
            self._leases.require_workers(self._more_than(worker))
        elif kind == "sampled":
            self._on_event(Sampled(content))
        elif kind == "begun":
            worker.sampling = False
        elif kind == "committed":
            worker.leased.remove(shard)
            self._leases.committed(worker.place, shard, content)
        elif shard is None:
            self._not_started(worker, content)
        else:
            worker.leased.remove(shard)
            worker.sampling = worker.sampling and kind != "failed in sampling"
            worker.failed = True
            self._leases.failed(worker.place, shard, content)
            self._leases.require_workers(self._more_than(worker))

    def _lose(self, worker: _Process) -> None:
        """Put a dead worker's shards back."""
        worker.process.join(_GRACE_S)
        why = f"its worker process died (exit code {worker.process.exitcode})"
        for shard in worker.leased:
            self._leases.lost(worker.place, shard, why)
        worker.leased.clear()
        if worker.ready:
            self._remove(worker)
        else:
            self._not_started(
                worker, f"a worker process died while it was starting (exit code {worker.process.exitcode})"
            )

    def _not_started(self, worker: _Process, failure: Failure | str) -> None:
        self._leases.not_started(worker.place, failure, self._more_than(worker))
        self._remove(worker)

    def _more_than(self, worker: _Process) -> bool:
        """Whether others are being started."""
        return any(not other.ready for other in self._workers if other is not worker)

    def _remove(self, worker: _Process) -> None:
        """End a process that holds no shard; where its seat is quarantined the slot stays empty."""
        worker.process.kill()
        worker.process.join(_GRACE_S)
        worker.pipe.close()
        self._workers.remove(worker)
        if self._leases.is_quarantined(worker.place):
            self._slots.remove(worker.slot)
        else:
            self._leases.left(worker.place)

    def _stop(self) -> None:
        for worker in self._workers:
            worker.pipe.close()
        for worker in self._workers:
            worker.process.join(_GRACE_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()


def _serve(job: Job, pipe: Connection, slot: _Slot) -> None:
    """Body of a worker process: shard numbers in; batches, commit records and failures out; the end of the pipe ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    threading.Thread(target=_die_with_parent, daemon=True).start()
    with closing(KeptStderr(Store(job.out), job.worker_log())):
        _work(job, pipe, slot)


def _work(job: Job, pipe: Connection, slot: _Slot) -> None:
    lock = threading.Lock()

    def send(kind: str, shard: int | None, content: Any = None) -> None:
        with lock:
            pipe.send((kind, shard, content))

    def settle(shard: int, future: Future[ShardCommit]) -> None:
        error = future.exception()
        if error is None:
            send("committed", shard, future.result())
        else:
            send("failed", shard, Failure.of(error))

    try:
        if slot.gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = slot.gpu  # before anything asks CUDA
            limit_gpu_memory(slot.share)
        worker = Worker(job)
        send("ready", None)
    except Exception as error:
        with suppress(OSError):  # the parent has ended and needs no answer
            send("failed", None, Failure.of(error))
        return
    while True:
        try:
            shard = pipe.recv()
        except EOFError:
            break
        try:
            future = worker.begin(shard, lambda n: send("sampled", None, n))
        except Exception as error:
            send("failed in sampling", shard, Failure.of(error))
            continue
        send("begun", shard)
        future.add_done_callback(lambda done, shard=shard: settle(shard, done))  # type: ignore[misc]
    worker.close()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
