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
from collections.abc import Callable, Sequence
from pathlib import Path

from ppcore.storage import Store
from ppgen.engines.defaults import default_threads
from ppgen.engines.inline import InlineEngine
from ppgen.engines.ray import RayEngine
from ppgen.generators import open_generator
from ppgen.plan import Settings, SynthRequest, build_synth_plan
from ppgen.plan.plan import Plan
from ppgen.shards.directory import claimed
from ppgen.shards.worker import Job
from ppgen.sources.spec import SourceSpec

WORKERS, BAR = 2, 0.95


def steady_rate(moments: Sequence[float], per_shard: int) -> float:
    """Images/s from the commit after which all workers are at work."""
    return (len(moments) - WORKERS) * per_shard / (moments[-1] - moments[WORKERS - 1])


def on_ray(job: Job, shards: Sequence[int]) -> None:
    """Ray is started and stopped around the work, so that it does not slow down the others."""
    summary = RayEngine(workers=WORKERS).run(job, shards, lambda event: None)
    assert not summary.failed, summary.failed


def one_alone(job: Job, shards: Sequence[int]) -> None:
    """Body of an independent process."""
    summary = InlineEngine().run(job, shards, lambda event: None)
    assert not summary.failed, summary.failed


def apart(job: Job, shards: Sequence[int]) -> None:
    """The same on independent processes, each with its share of the shards."""
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=one_alone, args=(job, shards[number::WORKERS])) for number in range(WORKERS)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0, "a process has died"


def moments(job: Job) -> list[float]:
    """When each shard was committed, by its record: the engines hear of it sooner or later."""
    return sorted(record.stat().st_mtime_ns / 1e9 for record in Path(job.out, "commits").iterdir())


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
    plan = build_synth_plan(
        generator, spec, SynthRequest(None, per_class), Settings(batch_size=100, samples_per_shard=100)
    )
    del generator
    rates: dict[str, list[float]] = {"Ray": [], "apart": []}
    kinds: dict[str, Callable[[Job, Sequence[int]], None]] = {"Ray": on_ray, "apart": apart}
    with tempfile.TemporaryDirectory(prefix="ppgen-overhead-") as folder:
        for number in range(chosen.rounds):
            for kind in list(kinds) if number % 2 == 0 else reversed(kinds):
                job = Job(plan, str(Path(folder, f"{kind}{number}")), spec, default_threads(plan))
                with claimed(Store(job.out), plan, None):
                    kinds[kind](job, whole_shards(plan, chosen.shards))
                rates[kind].append(steady_rate(moments(job), 100))
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
