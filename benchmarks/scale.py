"""Makes 1.3 million samples on Ray with a generator that takes no time: the cost of ppgen itself, and whether it grows.

    python benchmarks/scale.py                     1000 classes x 1300, 1300 shards
    python benchmarks/scale.py --samples 100000    a short run

Printed: images/s of the whole run (start of Ray, workers, commits, manifest, card and index included) beside the same pictures
written by (a) plain loops with `webdataset.ShardWriter`, one process a core as ours, and (b) Ray Data `map_batches` and
`write_webdataset` on the same cores (needs pandas: pip install pandas); the driver's memory from 10 % of the shards to the end;
seconds a sample in the first and in the last tenth. Exit status 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ppgen.engines.engine import cores
from ppgen.engines.events import Event
from ppgen.engines.run import prepare_job, run_job
from ppgen.generators import open_generator
from ppgen.options import EngineOptions, ShardOptions, SynthOptions
from ppgen.plan import build_synth_plan
from ppgen.plan.conditions import one_hot
from ppgen.shards.pack import make_encoder
from ppgen.sources.protocol import SourceSpec

CLASSES, PER_SHARD, BATCH = 1000, 1000, 100
MAX_GROWTH_MB, MAX_DRIFT, OF_BARE = 100, 0.10, 0.9
SPEC = SourceSpec("procedural:build", device="cpu")


def resident_mb() -> float:
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def picture_batch(generator: Any, first: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (B, C, H, W) pictures and int64 (B,) classes of the samples from `first` on; what all three have to encode and write."""
    index = np.arange(first, first + BATCH)
    label = index * 7919 % CLASSES
    images = generator.sample(torch.from_numpy(one_hot(label, CLASSES)), torch.from_numpy(index * 31))
    return images.numpy(), label


# ---- ours


def measure_ours(samples: int, workers: int, folder: Path) -> dict[str, Any]:
    """The whole run, and what the driver saw at every commit."""

    def note(event: Event) -> None:
        if event.event == "committed":
            moments.append(time.monotonic())
            memory.append(resident_mb())

    moments: list[float] = []
    memory: list[float] = []
    settings = ShardOptions(batch_size=BATCH, samples_per_shard=PER_SHARD)
    plan = build_synth_plan(
        open_generator(SPEC), SPEC, SynthOptions(classes=None, per_class=samples // CLASSES, shards=settings)
    )
    job = prepare_job(str(folder / "ours"), plan, source=SPEC)
    gc.collect()
    start = time.monotonic()
    status = run_job(job, EngineOptions(engine="ray", workers=workers), None, [note])
    seconds = time.monotonic() - start
    if status:
        sys.exit("shards failed")
    # The workers' first shards come at the same time: tenths are counted from the moment all are at work.
    marks = [moments[workers - 1 + (len(moments) - workers) * i // 10] for i in range(11)]
    each = [10 * (late - early) / (len(moments) - workers) for early, late in pairwise(marks)]
    tenth = len(moments) // 10
    return {
        "rate": plan.samples / seconds,
        "steady": (len(moments) - workers) * PER_SHARD / (moments[-1] - moments[workers - 1]),
        "tenths_us": [seconds / PER_SHARD * 1e6 for seconds in each],
        "growth_mb": max(memory[tenth:]) - memory[tenth - 1],
        "end_mb": resident_mb(),
    }


# ---- (a)


def bare_loop(samples: int, folder: str, pipe: Connection) -> None:
    """Sample, encode, write tars: the loop anybody writes."""
    import webdataset

    torch.set_num_threads(1)
    generator = open_generator(SPEC)
    encode = make_encoder({"format": "png", "level": 6})
    pipe.send("ready")
    pipe.recv()
    with webdataset.ShardWriter(f"{folder}/%06d.tar", maxcount=PER_SHARD, verbose=0) as writer:
        for first in range(0, samples, BATCH):
            images, label = picture_batch(generator, first)
            for offset in range(BATCH):
                sample = {
                    "__key__": f"{first + offset:09d}",
                    "png": encode(images[offset]),
                    "cls": str(label[offset]),
                }
                writer.write(sample)
    pipe.send(time.monotonic())


def measure_bare(samples: int, workers: int, folder: Path) -> float:
    """Images/s of `workers` loops at once, without their start."""
    context = multiprocessing.get_context("spawn")
    pipes = []
    for number in range(workers):
        ours, theirs = context.Pipe()
        (folder / f"bare{number}").mkdir()
        arguments = (samples // workers, str(folder / f"bare{number}"), theirs)
        context.Process(target=bare_loop, args=arguments, daemon=True).start()
        pipes.append(ours)
    for pipe in pipes:
        pipe.recv()
    start = time.monotonic()
    for pipe in pipes:
        pipe.send("go")
    return samples / (max(pipe.recv() for pipe in pipes) - start)


# ---- (b)


class Painter:
    """The callable class that Ray Data's actors hold."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self._generator = open_generator(SPEC)
        self._encode = make_encoder({"format": "png", "level": 6})

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        images, label = picture_batch(self._generator, int(batch["id"][0]))
        files = np.array([self._encode(image) for image in images], dtype=object)
        return {"__key__": [f"{i:09d}" for i in batch["id"]], "png": files, "cls": [str(c) for c in label]}


def run_ray_data(samples: int, workers: int, folder: Path) -> None:
    """Prints images/s without the start of Ray."""
    import ray

    ray.init(address="local", include_dashboard=False, log_to_driver=False, num_cpus=workers)
    ray.data.DataContext.get_current().enable_progress_bars = False
    start = time.monotonic()
    numbers = ray.data.range(samples, override_num_blocks=samples // PER_SHARD)
    pictures = numbers.map_batches(
        Painter, batch_size=BATCH, compute=ray.data.ActorPoolStrategy(size=max(1, workers - 1)), num_cpus=1
    )
    pictures.write_webdataset(str(folder / "ray_data"), min_rows_per_file=PER_SHARD, encoder=None)
    print("rate", samples / (time.monotonic() - start), flush=True)


def measure_ray_data(samples: int, workers: int, folder: Path) -> float | None:
    """In a process of its own: Ray Data's memory and threads stay out of our driver."""
    try:
        import pandas  # noqa: F401
    except ImportError:
        print("(b) skipped: Ray Data needs pandas; pip install pandas")
        return None
    command = [sys.executable, __file__, "--samples", str(samples), "--workers", str(workers)]
    done = subprocess.run([*command, "--ray-data-into", str(folder)], capture_output=True, text=True)
    rates = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("rate ")]
    if not rates:
        sys.exit(f"Ray Data failed:\n{done.stderr[-3000:]}")
    return float(rates[0])


def main() -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--samples", type=int, default=1_300_000, help="a multiple of 10,000")
    options.add_argument("--workers", type=int, default=cores())
    options.add_argument("--peer-samples", type=int, default=100_000, help="for (a) and (b)")
    options.add_argument("--ray-data-into", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.ray_data_into:
        run_ray_data(chosen.samples, chosen.workers, Path(chosen.ray_data_into))
        return 0
    peer = min(chosen.samples, chosen.peer_samples)
    with tempfile.TemporaryDirectory(prefix="ppgen-scale-") as name:
        folder = Path(name)
        bare = measure_bare(peer, chosen.workers, folder)
        ours = measure_ours(chosen.samples, chosen.workers, folder)
        ray_data = measure_ray_data(peer, chosen.workers, folder)
    return report(chosen.samples, chosen.workers, ours, bare, ray_data)


def report(samples: int, workers: int, ours: dict[str, Any], bare: float, ray_data: float | None) -> int:
    """Print the figures and the bars; exit status."""
    tenths = ours["tenths_us"]
    drift = abs(tenths[-1] / tenths[0] - 1)
    print(f"{samples} samples, {workers} workers; 8x8 PNG, {PER_SHARD} a shard")
    print(f"ppgen, Ray engine, whole run: {ours['rate']:.0f} images/s ({ours['steady']:.0f} between commits)")
    print(
        f"(a) webdataset.ShardWriter, {workers} loops: {bare:.0f} images/s; ours {ours['rate'] / bare:.2f} of it"
    )
    if ray_data is not None:
        share = ours["rate"] / ray_data
        print(f"(b) Ray Data map_batches + write_webdataset: {ray_data:.0f} images/s; ours {share:.2f} of it")
    print(
        f"driver memory: {ours['growth_mb']:.1f} MB more at most after 10 % of the shards; {ours['end_mb']:.0f} MB in the end"
    )
    listed = ", ".join(f"{us:.1f}" for us in tenths)
    print(f"microseconds a sample, tenth by tenth: {listed}; last against first {drift:.1%}")
    bars = {
        f"at least {OF_BARE} of (a)": ours["rate"] >= OF_BARE * bare,
        "ahead of (b)": ray_data is None or ours["rate"] > ray_data,
        f"driver grows under {MAX_GROWTH_MB} MB": ours["growth_mb"] < MAX_GROWTH_MB,
        f"first and last tenth within {MAX_DRIFT:.0%}": drift <= MAX_DRIFT,
    }
    for bar, met in bars.items():
        print(f"{'ok  ' if met else 'MISS'} {bar}")
    return 0 if all(bars.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
