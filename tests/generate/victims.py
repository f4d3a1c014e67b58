"""Runs that tests start in a process of their own and kill. No pytest here: a fresh process has to import this quickly."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from typing import Any

from rig import synth

from ppcore.errors import UserError
from ppcore.shards import PLAN
from ppcore.storage import Store
from ppgen.sources.protocol import SourceSpec

CONTEXT = multiprocessing.get_context(
    "forkserver"
)  # a warm process that forks: a run starts in milliseconds (pyarrow imports pandas)
CONTEXT.set_forkserver_preload(["victims", "ppgen.upkeep.verify", "ppgen.generators.load", "pandas"])


def painter(delay: float) -> SourceSpec:
    """The painter that takes `delay` seconds a batch."""
    return SourceSpec("dummy:build", device="cpu", sampling={"delay": delay})


def start(body: Callable[..., Any], *args: object) -> BaseProcess:
    """A process that runs `body`."""
    process = CONTEXT.Process(target=body, args=args)
    process.start()
    return process


def run_once(out: str, delay: float, per_class: int) -> None:
    """A whole run."""
    raise SystemExit(synth(out, spec=painter(delay), per_class=per_class))


def die_at(out: str, operation: int, per_class: int) -> None:
    """Die in the middle of the run's file operation of that number, as by SIGKILL or a power cut."""
    count = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            nonlocal count
            count += 1
            if count == operation:
                os._exit(9)
            return real(*args)

        return call

    os.replace = counted(os.replace)
    os.fsync = counted(os.fsync)
    run_once(out, 0.0, per_class)


def race(
    out: str, per_class: int, barrier: Any, answers: Any, environment: Mapping[str, str] | None = None
) -> None:
    """A whole run that looks for the plan, sees none and waits for the other runs to have seen none either; tells its error."""
    os.environ.update(environment or {})
    seen = Store.exists

    def exists(store: Store, name: str) -> bool:
        found = seen(store, name)
        if name == PLAN and not found:
            barrier.wait(30)
        return found

    Store.exists = exists  # type: ignore[method-assign]
    try:
        assert synth(out, spec=painter(0.0), per_class=per_class) == 0
        answers.put((per_class, ""))
    except UserError as error:
        answers.put((per_class, str(error)))


def two_at_once(out: str, environment: Mapping[str, str] | None = None) -> tuple[int, dict[int, str]]:
    """Two processes that ask for 10 and for 20 of every class, see no plan and go on together.

    Returns:
        Who was refused, and what each was told.
    """
    barrier, answers = CONTEXT.Barrier(2), CONTEXT.Queue()
    runs = [start(race, out, per_class, barrier, answers, environment) for per_class in (10, 20)]
    told = dict(answers.get(timeout=60) for _ in runs)
    for run in runs:
        run.join()
    return next(per_class for per_class, error in told.items() if error), told
