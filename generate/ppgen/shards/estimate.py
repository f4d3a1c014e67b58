"""What a plan will cost: samples, shards, bytes and, after a short calibration, time and money. Writes no file."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ppcore.console import format_duration
from ppcore.shards import CONDITIONS, TAR_BLOCK, meta_path, tar_path
from ppcore.storage import Store
from ppgen.plan import Conditions, Plan, Segment
from ppgen.shards.commit import ShardCommit
from ppgen.shards.finalize import read_rows
from ppgen.shards.state import pending_shards
from ppgen.shards.worker import Job, Worker
from ppgen.sources import choose_device

if TYPE_CHECKING:
    from ppgen.sources import Generator

_SECONDS = 6.0  # of calibration, after one batch that warms up
_BATCHES = 20  # at most
# Bytes of a pixel and channel, for natural images; letters and other flat pictures take a fraction of it.
_ROUGH_BYTES = {"png": 0.6, "jpg": 0.3, "webp": 0.2}
_ROUGH_ROW = 130  # parquet bytes of a sample; the sha256 in hexadecimal takes most


@dataclass(frozen=True)
class Rate:
    """What the calibration found.

    Attributes:
        images_per_s: of one worker, encoding and packing included, nothing drawn again.
        bytes_per_image: mean size of an encoded image.
        row_bytes: parquet bytes of a sample.
        images: how many it took.
        draws: forward passes over those of a plan that keeps every sample.
        device: where it ran.
    """

    images_per_s: float
    bytes_per_image: float
    row_bytes: float
    images: int
    draws: float
    device: str


def calibrate(job: Job, generator: Generator, conditions: Conditions | None) -> Rate:
    """Make a few batches of the plan as a worker makes them, in memory.

    Args:
        conditions: of a pseudo plan whose directory does not exist yet.
    """
    plan = job.plan
    size, out = plan.batch_size, f"memory://{uuid.uuid4().hex}"
    shards = 1 + _BATCHES
    segment = Segment(0, shards * size, -(-shards * size // max(1, len(plan.classes))))
    small = replace(plan, segments=(segment,), samples_per_shard=size, redraw=None)
    store = Store(out)
    if conditions is not None:
        there = Store(job.out)
        known = there.exists(CONDITIONS)
        store.write_atomic(CONDITIONS, there.read(CONDITIONS) if known else conditions.to_parquet())
    worker = Worker(Job(small, out, job.source, job.threads), generator)
    try:
        worker.make(0)
        seconds, made = _time(worker)
    finally:
        worker.close()
    tables = [read_rows(store, small, shard) for shard in range(1, 1 + made)]
    sizes = np.concatenate([table.column("bytes").to_numpy() for table in tables])
    rows = sum(store.size(meta_path(shard)) for shard in range(1, 1 + made))
    draws = 1.0
    if plan.redraw is not None:
        scores = np.concatenate([table.column("confidence").to_numpy() for table in tables])
        draws = expected_passes(plan, float((scores < plan.redraw["below"]).mean()))
    for shard in range(shards):  # fsspec's memory file system lives as long as the process
        store.delete(tar_path(shard))
    device = str(choose_device(job.source.device))
    return Rate(len(sizes) / seconds, float(sizes.mean()), rows / len(sizes), len(sizes), draws, device)


def _time(worker: Worker) -> tuple[float, int]:
    """(seconds, batches), each batch a shard, overlapped as the engines overlap them."""
    start, made = time.monotonic(), 0
    pending: Future[ShardCommit] | None = None
    while made < _BATCHES and (made == 0 or time.monotonic() - start < _SECONDS):
        begun = worker.begin(1 + made)
        if pending is not None:
            pending.result()
        pending, made = begun, made + 1
    if pending is not None:
        pending.result()
    return time.monotonic() - start, made


def expected_passes(plan: Plan, rejected: float) -> float:
    """Forward passes of a full shard over those without drawing again, when a draw is rejected with this probability.

    Follows :func:`ppgen.shards.redraw.redraw`: the rejected of a shard share batches, and one batch is the least a round takes.
    """
    assert plan.redraw is not None
    size, draws = plan.batch_size, int(plan.redraw["draws"])
    first = passes = float(-(-plan.samples_per_shard // size))
    left, done = plan.samples_per_shard * rejected, 1
    while done < draws and left > 0.01:
        each = min(draws - done, max(1, int(size / max(left, 1.0))))
        passes += max(left * each / size, min(1.0, left))
        left, done = left * rejected**each, done + each
    return passes / first


def describe(
    job: Job,
    workers: int,
    rate: Rate | None,
    price_per_hour: float | None,
) -> str:
    """The estimate in words.

    Args:
        workers: that share the work; they are taken not to slow each other down.
        rate: None where nothing was calibrated.
        price_per_hour: of one worker.
    """
    plan = job.plan
    size = f"{plan.resolution}x{plan.resolution}x{plan.channels}"
    lines = [
        f"{plan.kind}: {_classes(plan)}, {plan.samples} images of {size} as {plan.encoding['format']}, seed {plan.seed}",
        f"{plan.num_shards} shards of at most {plan.samples_per_shard} images, batches of {plan.batch_size} -> {job.out}",
    ]
    total, image = estimated_bytes(plan, rate)
    how = "a rough guess" if rate is None else f"measured on {rate.images} images"
    lines.append(f"about {format_bytes(total)} in all, {format_bytes(image)} an image ({how})")
    left = sum(plan.locate(shard)[2] for shard in pending_shards(Store(job.out), plan))
    if left < plan.samples:
        lines.append(f"{plan.samples - left} images are there already, {left} are left to make")
    if rate is not None:
        lines += _cost(left, workers, rate, price_per_hour)
    lines.append("nothing was written; the same command without `plan` makes it")
    return "\n".join(lines)


def _cost(left: int, workers: int, rate: Rate, price_per_hour: float | None) -> list[str]:
    each = rate.images_per_s / rate.draws
    hours = left / (each * workers) / 3600
    gpu = rate.device.startswith("cuda")
    crew = f"{workers} worker{'s' if workers > 1 else ''}"
    worked = f"{hours * workers:.2f} {'GPU' if gpu else 'worker'}-hours"
    lines = [f"{each:.1f} images/s a worker on {rate.device}, {each * workers:.1f} with {crew}"]
    if rate.draws > 1:
        lines[0] += f" (drawing again takes {rate.draws:.2f} times the passes)"
    lines.append(f"about {format_duration(hours * 3600)} with {crew}: {worked}")
    if price_per_hour is not None:
        lines[-1] += f", {hours * workers * price_per_hour:.2f} at {price_per_hour:g} an hour"
    return lines


def _classes(plan: Plan) -> str:
    if plan.kind == "synth":
        return f"{len(plan.classes)} of {plan.num_classes} classes of {plan.source['name']}"
    assert plan.target is not None
    assert plan.condition is not None
    return (
        f"{plan.condition['mode']} conditions from {plan.target['images']} images of {plan.target['name']} "
        f"over {plan.num_classes} classes of {plan.source['name']}"
    )


def estimated_bytes(plan: Plan, rate: Rate | None) -> tuple[int, int]:
    """(bytes of the whole directory, bytes of an encoded image)."""
    if rate is None:
        image = plan.resolution**2 * plan.channels * _ROUGH_BYTES[plan.encoding["format"]]
        row: float = _ROUGH_ROW
    else:
        image, row = rate.bytes_per_image, rate.row_bytes
    label = 1 if plan.kind == "synth" else 128 + 4 * plan.num_classes  # <key>.cls or <key>.soft.npy
    # A member is padded to whole blocks: half a block more on average, exactly as much for the label.
    member = 2 * TAR_BLOCK + image + TAR_BLOCK / 2 + -(-label // TAR_BLOCK) * TAR_BLOCK
    return int(plan.samples * (member + 2 * row)), int(image)  # rows: in meta/ and in the manifest


def format_bytes(count: float) -> str:
    """`62.4 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
