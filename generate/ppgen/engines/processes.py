"""Worker processes of this machine, fed over pipes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from ppgen.engines.base import OnEvent, Sampled
from ppgen.engines.leases import Failure, ShardQueue
from ppgen.shards import Job, ShardCommit, Worker

_GRACE_S = 10.0


@dataclass
class _Process:
    """A worker process, the parent's end of its pipe, and the shards it holds."""

    process: BaseProcess
    pipe: Connection
    leased: list[int] = field(default_factory=list)
    sampling: bool = False  # whether one of them is still being sampled


class ProcessPool:
    """Spawned processes. A dead one loses its shards to the others and is replaced.

    Not `concurrent.futures`: there a killed child breaks the whole pool, and children outlive a killed parent.
    """

    def __init__(self, job: Job, queue: ShardQueue, on_event: OnEvent, count: int) -> None:
        self._job, self._queue, self._on_event = job, queue, on_event
        self._workers: list[_Process] = []
        self._count = count

    def run(self) -> None:
        """Until every shard is committed or has failed for good. Raises UserError."""
        try:
            for _ in range(self._count):
                self._start()
            while self._queue or any(worker.leased for worker in self._workers):
                for worker in self._workers:
                    self._lease(worker)
                for ready in wait([worker.pipe for worker in self._workers]):
                    self._receive(next(worker for worker in self._workers if worker.pipe is ready))
        except BaseException:
            for worker in self._workers:
                worker.process.terminate()
            raise
        finally:
            self._stop()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(self._job, theirs), daemon=True)
        process.start()
        theirs.close()  # so that the pipe ends when the child does
        self._workers.append(_Process(process, ours))

    def _lease(self, worker: _Process) -> None:
        """One shard being sampled and one being committed, at most."""
        if self._queue and not worker.sampling and len(worker.leased) < 2:
            shard = self._queue.lease()
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
            self._replace(worker)
            return
        if kind == "sampled":
            self._on_event(Sampled(content))
        elif kind == "begun":
            worker.sampling = False
        elif kind == "committed":
            worker.leased.remove(shard)
            self._queue.committed(shard, content)
        elif shard is None:
            content.raise_if_permanent(self._job.out)
            raise RuntimeError(f"a worker could not start:\n{content.traceback}")
        else:
            worker.leased.remove(shard)
            worker.sampling = worker.sampling and kind != "failed in sampling"
            self._queue.failed(shard, content)

    def _replace(self, worker: _Process) -> None:
        """Put a dead worker's shards back and start another in its place."""
        worker.process.join(_GRACE_S)
        self._workers.remove(worker)
        for shard in worker.leased:
            self._queue.lost(shard, f"its worker process died (exit code {worker.process.exitcode})")
        if self._queue:
            self._start()

    def _stop(self) -> None:
        for worker in self._workers:
            worker.pipe.close()
        for worker in self._workers:
            worker.process.join(_GRACE_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()


def _serve(job: Job, pipe: Connection) -> None:
    """Body of a worker process: shard numbers in; batches, commit records and failures out; the end of the pipe ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    threading.Thread(target=_die_with_parent, daemon=True).start()
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
        worker = Worker(job)
    except Exception as error:
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
