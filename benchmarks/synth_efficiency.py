"""Compares images/s of `ppgen synth` after its start with a loop that only samples: same model, batch, threads and processes.

    python benchmarks/synth_efficiency.py --source letters            # prints the ratio; bar: at least 0.95

Each round measures both, in alternating order, and the medians are compared. The loop only calls `sample`; ppgen also encodes,
packs, hashes, writes, fsyncs and commits, up to the last commit record.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from ppgen.engines.engine import cores, default_threads
from ppgen.engines.events import Event
from ppgen.engines.run import prepare_job, run_job
from ppgen.generators import open_generator
from ppgen.options import EngineOptions, ShardOptions, SynthOptions
from ppgen.plan import build_synth_plan
from ppgen.shards.worker import Job
from ppgen.sources.protocol import SourceSpec

_WARM_SHARE = 0.2  # of the batches of a run; they are not measured


def bare_loop(spec: SourceSpec, batch: int, batches: int, threads: int, pipe: Connection) -> None:
    """Load the generator, warm up, report it, wait for the start and sample; sends the time of the last image."""
    torch.set_num_threads(threads)
    generator = open_generator(spec)
    classes = generator.num_classes
    labels = torch.eye(classes)[torch.arange(batch) % classes]
    with torch.inference_mode():
        generator.sample(labels, torch.arange(batch)).cpu()
        pipe.send("ready")
        pipe.recv()
        for number in range(batches):
            generator.sample(labels, torch.arange(batch) + batch * (number + 1)).cpu()
    pipe.send(time.monotonic())


def bare_rate(spec: SourceSpec, batch: int, images: int, threads: int, workers: int) -> float:
    """Images/s of `workers` processes that do nothing but sample."""
    context = multiprocessing.get_context("spawn")
    batches = max(1, round(images / batch / workers))
    pipes, processes = [], []
    for _ in range(workers):
        ours, theirs = context.Pipe()
        process = context.Process(target=bare_loop, args=(spec, batch, batches, threads, theirs))
        process.start()
        pipes.append(ours)
        processes.append(process)
    for pipe in pipes:
        pipe.recv()
    start = time.monotonic()
    for pipe in pipes:
        pipe.send("go")
    end = max(pipe.recv() for pipe in pipes)
    for process in processes:
        process.join()
    return batches * batch * workers / (end - start)


class Stopwatch:
    """Notes the times of the events of a run."""

    def __init__(self) -> None:
        self.sampled: list[tuple[float, int]] = []
        self.end = 0.0

    def __call__(self, event: Event) -> None:
        if event.event == "sampled":
            self.sampled.append((time.monotonic(), event.samples or 0))
        elif event.event == "committed":
            self.end = time.monotonic()

    def rate(self) -> float:
        """Images/s from the end of the warm-up to the last commit."""
        first = max(1, int(len(self.sampled) * _WARM_SHARE))
        return sum(n for _, n in self.sampled[first:]) / (self.end - self.sampled[first - 1][0])


def ppgen_rate(job: Job, workers: int) -> float:
    """Images/s of `ppgen synth`."""
    watch = Stopwatch()
    if run_job(job, EngineOptions(workers=workers), None, [watch]):
        sys.exit("shards failed")
    return watch.rate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", default="letters")
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--workers", type=int, default=cores())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    spec = SourceSpec(args.source, device=args.device)
    generator = open_generator(spec)
    per_class = max(1, args.images // generator.num_classes)
    plan = build_synth_plan(
        generator,
        spec,
        SynthOptions(classes=None, per_class=per_class, shards=ShardOptions(batch_size=args.batch_size)),
    )
    threads = default_threads(plan)
    bare: list[float] = []
    ours: list[float] = []
    for number in range(args.rounds):
        with tempfile.TemporaryDirectory() as folder:
            job = prepare_job(str(Path(folder, "out")), plan, source=spec, threads=threads)
            measurements = [
                lambda: bare.append(bare_rate(spec, args.batch_size, plan.samples, threads, args.workers)),
                lambda job=job: ours.append(ppgen_rate(job, args.workers)),
            ]
            for measure in measurements if number % 2 == 0 else reversed(measurements):
                measure()
        print(f"round {number + 1}: bare {bare[-1]:.1f}/s, ppgen {ours[-1]:.1f}/s", flush=True)
    ratio = statistics.median(ours) / statistics.median(bare)
    print(
        f"{args.source}, {args.workers} processes x {threads} threads, batch {args.batch_size}, {plan.samples} images: "
        f"bare {statistics.median(bare):.1f}/s, ppgen {statistics.median(ours):.1f}/s, ratio {ratio:.3f}"
    )


if __name__ == "__main__":
    main()
