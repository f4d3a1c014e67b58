"""Run a recipe's jobs side by side, one process a core; finished jobs are found again and not repeated."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ppcore.console import format_duration
from ppcore.errors import UserError
from ppflow.runner.graph import Key, Node, dependents

Say = Callable[[str], None]


@dataclass(frozen=True)
class Done:
    """A finished job: what it reported, and the seconds it took in this run (0 when it was found done)."""

    node: Node
    result: dict[str, Any]
    seconds: float


def run_nodes(nodes: dict[Key, Node], *, workers: int, say: Say) -> dict[Key, Done]:
    """Run every job once those it needs are done; those that most others wait for first.

    Each job writes what it prints to `<folder>.log`.

    Raises:
        UserError: a job was refused; the message is the job's own.
        RuntimeError: a job's process died.
    """
    weight = dependents(nodes)
    todo = sorted(nodes, key=lambda key: -weight[key])
    done: dict[Key, Done] = {}
    running: dict[Future[tuple[dict[str, Any], float]], Key] = {}
    start = time.monotonic()
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start_worker)
    try:
        while len(done) < len(nodes):
            for key in [k for k in todo if all(need in done for need in nodes[k].needs)]:
                if len(running) == workers:
                    break
                todo.remove(key)
                running[pool.submit(_work, nodes[key])] = key
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                key = running.pop(future)
                result, seconds = future.result()
                done[key] = Done(nodes[key], result, seconds)
                elapsed = time.monotonic() - start
                left = format_duration(elapsed / len(done) * (len(nodes) - len(done)))
                found = "" if seconds else " (found done)"
                say(
                    f"[{len(done)}/{len(nodes)}] {nodes[key].label}: {_summary(result)}, {seconds:.0f} s{found}; ETA {left}"
                )
    except BrokenProcessPool as error:
        raise RuntimeError("a job's process was killed; run the same command again to resume") from error
    finally:
        _stop(pool)
    return done


def _summary(result: dict[str, Any]) -> str:
    if "accuracy" in result:
        return f"accuracy {100 * result['accuracy']:.1f} %"
    return " ".join(f"{value} {'images' if name == 'samples' else name}" for name, value in result.items())


def _stop(pool: ProcessPoolExecutor) -> None:
    """Do not wait for jobs that are still running after a failure or Ctrl-C: they resume."""
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(timeout=10)


def _start_worker() -> None:
    import torch

    # One thread a process: small networks on a busy machine are many times slower with two.
    torch.set_num_threads(1)


def _work(node: Node) -> tuple[dict[str, Any], float]:
    """In a worker process: run one job, its output sent to its log file."""
    from ppflow.runner import jobs

    known = jobs.finished(node)
    if known is not None:
        return known, 0.0
    node.folder.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    log = node.folder.with_name(node.folder.name + ".log")
    with _output_to(log):
        try:
            result = jobs.run(node)
        except UserError as error:
            raise UserError(f"{node.label}: {error}") from error
    return result, max(time.monotonic() - start, 1e-3)


class _output_to:  # noqa: N801 - a context manager used like a function
    """Send file descriptors 1 and 2 to a file for a while (subprocesses and C libraries included)."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        self._saved = [os.dup(1), os.dup(2)]
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for target in (1, 2):
            os.dup2(descriptor, target)
        os.close(descriptor)

    def __exit__(self, *_: object) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        for target, saved in zip((1, 2), self._saved, strict=True):
            os.dup2(saved, target)
            os.close(saved)
