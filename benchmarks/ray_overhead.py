"""Compares two Ray workers with two independent processes that make the same shards: the overhead of Ray with a real generator.

    python benchmarks/ray_overhead.py                 letters kit; bar: at least 1/1.05 = 0.952

Every round measures both, in alternating order; the result is the median of the ratios. The rate of a worker is measured from its
first commit, when everything is loaded, to its last one, and the rates of both workers are added. So an uneven number of shards at
the end does not count against Ray. The exit status is 1 if the bar is missed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from ppcore.shards import commit_path
from ppcore.storage import Store
from ppgen.engines.engine import default_threads, make_shards
from ppgen.engines.events import Event
from ppgen.generators import open_generator
from ppgen.options import EngineOptions, ShardOptions, SynthOptions
from ppgen.plan import build_synth_plan
from ppgen.plan.plan import Plan
from ppgen.shards.directory import claimed
from ppgen.shards.worker import Job
from ppgen.sources.protocol import SourceSpec

WORKERS, BAR, PER_SHARD = 2, 1 / 1.05, 100


def on_ray(job: Job, shards: Sequence[int]) -> list[list[int]]:
    """Make the shards on a local Ray, which runs only meanwhile. Returns the shards of each worker."""
    made: dict[str, list[int]] = {}

    def note(event: Event) -> None:
        if event.event == "committed":
            made.setdefault(event.worker or "", []).append(event.shard or 0)

    outcome = make_shards(job, shards, EngineOptions(engine="ray", workers=WORKERS), note)
    assert not outcome.failed, outcome.failed
    return list(made.values())


def one_alone(job: Job, shards: Sequence[int]) -> None:
    """Body of an independent process."""
    outcome = make_shards(job, shards, EngineOptions(workers=1), lambda event: None)
    assert not outcome.failed, outcome.failed


def apart(job: Job, shards: Sequence[int]) -> list[list[int]]:
    """Make the shards in independent processes, each with its part of them. Returns the shards of each process."""
    context = multiprocessing.get_context("spawn")
    shares = [list(shards[number::WORKERS]) for number in range(WORKERS)]
    processes = [context.Process(target=one_alone, args=(job, share)) for share in shares]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0, "a process has died"
    return shares


def rate(job: Job, shards: Sequence[int]) -> float:
    """Images/s of one worker, from the times of its commit records, because the driver receives commits with a delay."""
    store = Path(job.out)
    moments = sorted((store / commit_path(shard)).stat().st_mtime_ns / 1e9 for shard in shards)
    return (len(moments) - 1) * PER_SHARD / (moments[-1] - moments[0])


def main() -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--source", default="letters")
    options.add_argument("--shards", type=int, default=30, help=f"of a measurement, {PER_SHARD} images each")
    options.add_argument("--rounds", type=int, default=3)
    chosen = options.parse_args()
    spec = SourceSpec(chosen.source, device="cpu")
    generator = open_generator(spec)
    per_class = -(-chosen.shards * PER_SHARD // generator.num_classes)
    plan = build_synth_plan(
        generator,
        spec,
        SynthOptions(
            classes=None,
            per_class=per_class,
            shards=ShardOptions(batch_size=PER_SHARD, samples_per_shard=PER_SHARD),
        ),
    )
    del generator
    rates: dict[str, list[float]] = {"Ray": [], "apart": []}
    kinds: dict[str, Callable[[Job, Sequence[int]], list[list[int]]]] = {"Ray": on_ray, "apart": apart}
    with tempfile.TemporaryDirectory(prefix="ppgen-overhead-") as folder:
        for number in range(chosen.rounds):
            for kind in list(kinds) if number % 2 == 0 else reversed(kinds):
                job = Job(plan, str(Path(folder, f"{kind}{number}")), spec, default_threads(plan))
                with claimed(Store(job.out), plan, None):
                    shares = kinds[kind](job, whole_shards(plan, chosen.shards))
                rates[kind].append(sum(rate(job, share) for share in shares))
                print(f"round {number + 1}, {kind}: {rates[kind][-1]:.1f} images/s", flush=True)
    ratios = [ray / alone for ray, alone in zip(rates["Ray"], rates["apart"], strict=True)]
    ratio = statistics.median(ratios)
    listed = ", ".join(f"{each:.3f}" for each in ratios)
    print(
        f"{chosen.source}: {WORKERS} Ray workers reach {ratio:.3f} of {WORKERS} independent processes (median of {listed})"
    )
    print(f"{'ok  ' if ratio >= BAR else 'MISS'} at least {BAR:.3f}")
    return 0 if ratio >= BAR else 1


def whole_shards(plan: Plan, count: int) -> list[int]:
    """The first shards, without a short last one."""
    return [shard for shard in range(min(count, plan.num_shards)) if plan.locate(shard)[2] == PER_SHARD]


if __name__ == "__main__":
    sys.exit(main())
