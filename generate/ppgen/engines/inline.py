"""The engine without a cluster: one worker in this process, or several processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

from ppgen.engines.base import OnEvent, Queue, Sampled, Summary, portable, refuse_hopeless, told
from ppgen.shards import Job, ShardCommit, Worker

if TYPE_CHECKING:
    from ppgen.sources import Generator

_GRACE_S = 10.0


class InlineEngine:
    """Runs shards here.

    Args:
        workers: 1 works in this process; more start as many processes, each with its own generator.
        generator: an already loaded one, used when workers is 1.
    """

    def __init__(self, workers: int = 1, generator: Generator | None = None) -> None:
        self._workers, self._generator = workers, generator

    def run(self, job: Job, shards: Sequence[int], on_event: OnEvent) -> Summary:
        """See :class:`ppgen.engines.base.Engine`."""
        queue = Queue(shards, on_event)
        count = min(self._workers, len(shards))
        if count <= 1:
            _run_here(job, queue, on_event, self._generator)
        else:
            _Pool(job, queue, on_event, count).run()
        return queue.summary


def _run_here(job: Job, queue: Queue, on_event: OnEvent, generator: Generator | None) -> None:
    worker = Worker(job, generator)
    pending: tuple[int, Future[ShardCommit]] | None = None
    try:
        while queue or pending is not None:
            begun = None
            if queue:
                shard = queue.take()
                try:
                    begun = (shard, worker.begin(shard, lambda n: on_event(Sampled(n))))
                except Exception as error:
                    refuse_hopeless(error, job.out)
                    queue.failed(shard, told(error))
            if pending is not None:
                _settle(pending, queue, job.out)
            pending = begun
    finally:
        worker.close()


def _settle(pending: tuple[int, Future[ShardCommit]], queue: Queue, out: str) -> None:
    shard, future = pending
    try:
        record = future.result()
    except Exception as error:
        refuse_hopeless(error, out)
        queue.failed(shard, told(error))
    else:
        queue.committed(shard, record)


@dataclass
class _Child:
    """A worker process, the parent's end of its pipe, and its unfinished shards."""

    process: BaseProcess
    pipe: Connection
    unfinished: list[int] = field(default_factory=list)
    sampling: bool = False  # whether one of them is still being sampled


class _Pool:
    """Spawned processes fed over pipes. A dead process loses its shards to the others and is replaced.

    Not `concurrent.futures`: there a killed child breaks the whole pool, and children outlive a killed parent.
    """

    def __init__(self, job: Job, queue: Queue, on_event: OnEvent, count: int) -> None:
        self._job, self._queue, self._on_event = job, queue, on_event
        self._children: list[_Child] = []
        self._count = count

    def run(self) -> None:
        try:
            for _ in range(self._count):
                self._start()
            while self._queue or any(child.unfinished for child in self._children):
                for child in self._children:
                    self._feed(child)
                for ready in wait([child.pipe for child in self._children]):
                    self._hear(next(child for child in self._children if child.pipe is ready))
        except BaseException:
            for child in self._children:
                child.process.terminate()
            raise
        finally:
            self._stop()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(self._job, theirs), daemon=True)
        process.start()
        theirs.close()  # so that the pipe ends when the child does
        self._children.append(_Child(process, ours))

    def _feed(self, child: _Child) -> None:
        """One shard being sampled and one being committed, at most."""
        if self._queue and not child.sampling and len(child.unfinished) < 2:
            shard = self._queue.take()
            child.unfinished.append(shard)
            child.sampling = True
            try:
                child.pipe.send(shard)
            except OSError:
                return  # it has died; wait() reports the broken pipe and _hear puts its shards back

    def _hear(self, child: _Child) -> None:
        try:
            kind, shard, content = child.pipe.recv()
        except (EOFError, OSError):
            self._bury(child)
            return
        if kind == "sampled":
            self._on_event(Sampled(content))
        elif kind == "begun":
            child.sampling = False
        elif kind == "committed":
            child.unfinished.remove(shard)
            self._queue.committed(shard, content)
        else:
            error, text, while_sampling = content
            refuse_hopeless(error, self._job.out)
            if shard is None:
                raise RuntimeError(f"a worker could not start:\n{text}")
            child.unfinished.remove(shard)
            child.sampling = child.sampling and not while_sampling
            self._queue.failed(shard, text)

    def _bury(self, child: _Child) -> None:
        """Put a dead worker's shards back and start another in its place."""
        child.process.join(_GRACE_S)
        self._children.remove(child)
        for shard in child.unfinished:
            self._queue.failed(shard, f"its worker process died (exit code {child.process.exitcode})")
        if self._queue:
            self._start()

    def _stop(self) -> None:
        for child in self._children:
            child.pipe.close()
        for child in self._children:
            child.process.join(_GRACE_S)
            if child.process.is_alive():
                child.process.kill()
                child.process.join()


def _serve(job: Job, pipe: Connection) -> None:
    """Body of a worker process: shard numbers in; batches, commit records and errors out; the end of the pipe ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    threading.Thread(target=_die_with_parent, daemon=True).start()
    lock = threading.Lock()

    def tell(kind: str, shard: int | None, content: Any = None) -> None:
        with lock:
            pipe.send((kind, shard, content))

    def settle(shard: int, future: Future[ShardCommit]) -> None:
        error = future.exception()
        if error is None:
            tell("committed", shard, future.result())
        else:
            tell("error", shard, (portable(error), told(error), False))

    try:
        worker = Worker(job)
    except Exception as error:
        tell("error", None, (portable(error), told(error), False))
        return
    while True:
        try:
            shard = pipe.recv()
        except EOFError:
            break
        try:
            future = worker.begin(shard, lambda n: tell("sampled", None, n))
        except Exception as error:
            tell("error", shard, (portable(error), told(error), True))
            continue
        tell("begun", shard)
        future.add_done_callback(lambda done, shard=shard: settle(shard, done))  # type: ignore[misc]
    worker.close()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
