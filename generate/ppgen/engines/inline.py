"""Workers of this machine: this process itself, or processes that are fed over pipes."""

from __future__ import annotations

import multiprocessing
import os
import platform
import signal
import threading
from collections import deque
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from ppcore.storage import KeptStderr, Store
from ppgen.engines.driver import Message, Receive, Transport, Worker
from ppgen.engines.events import Failure
from ppgen.shards import Job, ShardCommit
from ppgen.shards import Worker as ShardWorker
from ppgen.sources import Generator

_GRACE_S = 10.0
_LOOK_S = 1.0
_OF_ITS_SHARE = 0.95  # of its share that a process may allocate: torch does not count its CUDA context


def workers_here(job: Job, count: int, generator: Generator | None) -> Transport:
    """Workers of this machine: one in this process, which uses `generator` if it is given, or as many processes as `count`."""
    gpus = visible_gpus(job.source.device)
    return ThisProcess(job, gpus, generator) if count == 1 else Processes(job, count, gpus)


def visible_gpus(device: str) -> list[str]:
    """Values of CUDA_VISIBLE_DEVICES for worker processes on `device`, one for each GPU; none for a CPU or a GPU by number."""
    if device not in ("auto", "cuda") or not torch.cuda.is_available():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named:
        return [name.strip() for name in named.split(",") if name.strip()]
    return [str(number) for number in range(torch.cuda.device_count())]


def gpu_share(workers: int, gpus: int) -> float:
    """The share of a GPU that each of `workers` gets when they are spread over `gpus`."""
    return 1 / -(-workers // gpus) if gpus else 1.0


def limit_gpu_memory(share: float) -> None:
    """Limit the GPU memory of this process to its share, so that another worker on the GPU does not run out of memory."""
    if 0 < share < 1 and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(share * _OF_ITS_SHARE)


class Processes(Transport):
    """Spawned processes.

    Not `concurrent.futures`: there one killed process breaks the whole pool, and processes outlive a killed parent.

    Args:
        count: processes at one time.
        gpus: values of CUDA_VISIBLE_DEVICES to spread them over; none for the CPU.
    """

    def __init__(self, job: Job, count: int, gpus: Sequence[str] = ()) -> None:
        self._job = job
        self._share = gpu_share(count, len(gpus))
        self._free: list[str | None] = [gpus[k % len(gpus)] if gpus else None for k in range(count)]
        self._links: dict[Worker, tuple[BaseProcess, Connection, str | None]] = {}

    def wanted(self, alive: int, avoided: Collection[str]) -> int:
        return 0 if platform.node() in avoided else len(self._links) + len(self._free)

    def start(self, avoided: Collection[str]) -> Worker:
        gpu = self._free.pop(0)
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(self._job, theirs, gpu, self._share), daemon=True)
        process.start()
        theirs.close()  # so that our end reports when the process dies
        worker = Worker()
        self._links[worker] = (process, ours, gpu)
        return worker

    def send(self, worker: Worker, shard: int) -> None:
        with suppress(OSError):  # the process has died; `wait` reports it
            self._links[worker][1].send(shard)

    def wait(self, receive: Receive) -> None:
        for worker, (process, _, gpu) in list(self._links.items()):
            if worker.seat is None:
                device = self._job.source.device if gpu is None else f"GPU {gpu}"
                receive(worker, "placed", None, (f"process {process.pid}", platform.node(), device))
        pipes = {pipe: worker for worker, (_, pipe, _) in self._links.items()}
        for pipe in wait(list(pipes), _LOOK_S):
            assert isinstance(pipe, Connection)
            worker = pipes[pipe]
            try:
                message, shard, content = pipe.recv()
            except (EOFError, OSError):
                process = self._links[worker][0]
                process.join(_GRACE_S)
                receive(worker, "died", None, f"its worker process died (exit code {process.exitcode})")
            else:
                receive(worker, message, shard, content)

    def stop(self, worker: Worker, *, block: bool) -> None:
        process, pipe, gpu = self._links.pop(worker)
        process.kill()
        process.join(_GRACE_S)
        pipe.close()
        if not block:
            self._free.append(gpu)

    def close(self, *, at_once: bool) -> None:
        for process, pipe, _ in self._links.values():
            if at_once:
                process.terminate()
            pipe.close()
        for process, _, _ in self._links.values():
            process.join(_GRACE_S)
            if process.is_alive():
                process.kill()
                process.join()
        self._links.clear()


class ThisProcess(Processes):
    """One worker in this process, which samples a shard while it commits the one before.

    A process cannot use the GPU after a CUDA error; a spawned process then takes over.

    Args:
        gpus: as of :class:`Processes`.
        generator: an already loaded one; None loads it.
    """

    def __init__(self, job: Job, gpus: Sequence[str], generator: Generator | None) -> None:
        super().__init__(job, 1, gpus)
        self._generator = generator
        self._here: Worker | None = None
        self._loaded: ShardWorker | None = None
        self._number = 0
        self._spoilt = False
        self._next: int | None = None
        self._commits: deque[tuple[int, Future[ShardCommit]]] = deque()

    def wanted(self, alive: int, avoided: Collection[str]) -> int:
        return 0 if platform.node() in avoided else 1

    def start(self, avoided: Collection[str]) -> Worker:
        if self._spoilt:
            return super().start(avoided)
        self._here = Worker()
        return self._here

    def send(self, worker: Worker, shard: int) -> None:
        if worker is self._here:
            self._next = shard
        else:
            super().send(worker, shard)

    def wait(self, receive: Receive) -> None:
        """Sample the shard that was sent, then wait for the commit of the one before."""
        worker = self._here
        if worker is None:
            super().wait(receive)
            return
        if self._loaded is None:
            name = f"process {os.getpid()}, worker {self._number}"
            receive(worker, "placed", None, (name, platform.node(), self._job.source.device))
            generator, self._generator, self._number = self._generator, None, self._number + 1
            try:
                self._loaded = ShardWorker(self._job, generator)
            except Exception as error:
                receive(worker, "failed", None, Failure.of(error))
            else:
                receive(worker, "ready", None, None)
            return
        begun, shard, self._next = None, self._next, None
        if shard is not None:
            try:
                begun = self._loaded.begin(shard, lambda n: receive(worker, "sampled", None, n))
            except Exception as error:
                self._fail(worker, shard, error, receive)
            else:
                receive(worker, "begun", shard, None)
        if self._commits:
            older, future = self._commits.popleft()
            try:
                commit = future.result()
            except Exception as error:
                self._fail(worker, older, error, receive)
            else:
                receive(worker, "committed", older, commit)
        if begun is not None and shard is not None:
            self._commits.append((shard, begun))

    def _fail(self, worker: Worker, shard: int, error: Exception, receive: Receive) -> None:
        failure = Failure.of(error)
        self._spoilt = self._spoilt or failure.spoils_process
        receive(worker, "failed", shard, failure)

    def stop(self, worker: Worker, *, block: bool) -> None:
        if worker is not self._here:
            super().stop(worker, block=block)
            return
        if self._loaded is not None:
            self._loaded.close()
        self._here = self._loaded = None

    def close(self, *, at_once: bool) -> None:
        if self._here is not None:
            self.stop(self._here, block=False)
        super().close(at_once=at_once)


def _serve(job: Job, pipe: Connection, gpu: str | None, share: float) -> None:
    """Body of a worker process: it receives shard numbers and sends messages until its parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    threading.Thread(target=_die_with_parent, daemon=True).start()
    with closing(KeptStderr(Store(job.out), job.worker_log())):
        _work(job, pipe, gpu, share)


def _work(job: Job, pipe: Connection, gpu: str | None, share: float) -> None:
    lock = threading.Lock()

    def send(message: Message, shard: int | None, content: Any = None) -> None:
        with lock:
            pipe.send((message, shard, content))

    def report(shard: int, future: Future[ShardCommit]) -> None:
        error = future.exception()
        if isinstance(error, Exception):
            send("failed", shard, Failure.of(error))
        else:
            send("committed", shard, future.result())

    try:
        if gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # before anything asks CUDA
            limit_gpu_memory(share)
        worker = ShardWorker(job)
        send("ready", None)
    except Exception as error:
        with suppress(OSError):  # the parent has ended
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
            send("failed", shard, Failure.of(error))
            continue
        send("begun", shard)
        future.add_done_callback(lambda done, shard=shard: report(shard, done))  # type: ignore[misc]
    worker.close()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
