"""Two Ray workers against two independent processes that make the same shards: what the Ray engine costs where sampling costs something.

    python benchmarks/ray_overhead.py                 letters kit; bar: at least 0.95

Every round measures both, in alternating order, and the medians are compared. A rate counts from the moment both workers have
committed a shard, when all is loaded and warm, to the last commit. Exit status 1 when the bar is missed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path

from ppcore.storage import Store
from ppgen.directory import create
from ppgen.engines.base import Committed, Event
from ppgen.engines.inline import InlineEngine
from ppgen.engines.ray import RayEngine
from ppgen.plan import Plan
from ppgen.request import Settings, plan_synth
from ppgen.run import default_threads
from ppgen.source import SourceSpec, open_generator
from ppgen.worker import Job

WORKERS, BAR = 2, 0.95


def steady_rate(moments: Sequence[float], per_shard: int) -> float:
    """Images/s from the commit after which all workers are at work."""
    return (len(moments) - WORKERS) * per_shard / (moments[-1] - moments[WORKERS - 1])


def on_ray(job: Job, shards: Sequence[int]) -> list[float]:
    """The moments of all commits; Ray is started and stopped around them, so that it does not slow down the others."""
    moments: list[float] = []

    def heard(event: Event) -> None:
        if isinstance(event, Committed):
            moments.append(time.monotonic())

    summary = RayEngine(workers=WORKERS).run(job, shards, heard)
    assert not summary.failed, summary.failed
    return moments


def one_alone(job: Job, shards: Sequence[int], pipe: Connection) -> None:
    """Body of an independent process: its share of the shards, every commit reported."""
    InlineEngine().run(
        job, shards, lambda e: pipe.send(time.monotonic()) if isinstance(e, Committed) else None
    )


def apart(job: Job, shards: Sequence[int]) -> list[float]:
    """The same on independent processes, each with its share of the shards."""
    context = multiprocessing.get_context("spawn")
    pipes = []
    for number in range(WORKERS):
        ours, theirs = context.Pipe()
        context.Process(target=one_alone, args=(job, shards[number::WORKERS], theirs), daemon=True).start()
        theirs.close()
        pipes.append(ours)
    moments: list[float] = []
    while pipes:
        for ready in wait(pipes):
            try:
                moments.append(ready.recv())  # type: ignore[union-attr]
            except EOFError:
                pipes.remove(ready)  # type: ignore[arg-type]
    assert len(moments) == len(shards), "a process has died"
    return sorted(moments)


def main() -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--source", default="letters")
    options.add_argument("--shards", type=int, default=30, help="of a measurement, 100 images each")
    options.add_argument("--rounds", type=int, default=3)
    chosen = options.parse_args()
    spec = SourceSpec(chosen.source, device="cpu")
    generator = open_generator(spec)
    per_class = -(-chosen.shards * 100 // generator.num_classes)
    plan = plan_synth(generator, spec, None, per_class, Settings(batch_size=100, samples_per_shard=100))
    del generator
    rates: dict[str, list[float]] = {"Ray": [], "apart": []}
    kinds: dict[str, Callable[[Job, Sequence[int]], list[float]]] = {"Ray": on_ray, "apart": apart}
    with tempfile.TemporaryDirectory(prefix="ppgen-overhead-") as folder:
        for number in range(chosen.rounds):
            for kind in list(kinds) if number % 2 == 0 else reversed(kinds):
                job = Job(plan, str(Path(folder, f"{kind}{number}")), spec, default_threads(plan))
                create(Store(job.out), plan, None)
                rates[kind].append(steady_rate(kinds[kind](job, whole_shards(plan, chosen.shards)), 100))
                print(f"round {number + 1}, {kind}: {rates[kind][-1]:.1f} images/s", flush=True)
    ratio = statistics.median(rates["Ray"]) / statistics.median(rates["apart"])
    print(
        f"{chosen.source}: {WORKERS} Ray workers reach {ratio:.3f} of {WORKERS} independent processes (medians)"
    )
    print(f"{'ok  ' if ratio >= BAR else 'MISS'} at least {BAR}")
    return 0 if ratio >= BAR else 1


def whole_shards(plan: Plan, count: int) -> list[int]:
    """The first shards, without a short last one."""
    return [shard for shard in range(min(count, plan.num_shards)) if plan.locate(shard)[2] == 100]


if __name__ == "__main__":
    sys.exit(main())
