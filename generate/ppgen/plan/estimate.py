"""The cost of a plan: bytes, hours, money."""

from __future__ import annotations

from dataclasses import dataclass

from ppcore.console import format_duration
from ppcore.shards import TAR_BLOCK
from ppgen.plan.plan import LOSSLESS_UP_TO, Plan
from ppgen.sources import MATRIX_RATE, least_hours

# Bytes of a pixel and channel, for natural images; letters and other flat pictures take a fraction of it.
_ROUGH_BYTES = {"png": 0.6, "jpg": 0.3, "webp": 0.2}
_ROUGH_ROW = 130  # parquet bytes of a sample; the sha256 in hexadecimal takes most


@dataclass(frozen=True)
class Rate:
    """The rate that :func:`ppgen.shards.worker.calibrate` has measured.

    Attributes:
        images_per_s: of one worker, encoding and packing included.
        bytes_per_image: mean size of an encoded image.
        row_bytes: parquet bytes of a sample.
        images: number of images that were made to measure it.
        device: on which it was measured.
    """

    images_per_s: float
    bytes_per_image: float
    row_bytes: float
    images: int
    device: str


@dataclass(frozen=True)
class Estimate:
    """The cost of a plan.

    Attributes:
        out: directory it is for.
        left: samples that are not made yet.
        workers: number of workers; the estimate assumes that they do not slow each other down.
        rate: None if nothing was measured.
        price_per_hour: of one worker.
        gflop: arithmetic of an image with the default settings, where the catalogue knows it.
        listed: the source is not on this machine, and the plan follows from the catalogue.
    """

    plan: Plan
    out: str
    left: int
    workers: int
    rate: Rate | None = None
    price_per_hour: float | None = None
    gflop: float | None = None
    listed: bool = False

    def describe(self) -> str:
        """The estimate as text, one fact on each line."""
        plan, rate = self.plan, self.rate
        size = f"{plan.resolution}x{plan.resolution}x{plan.channels}"
        total, image = estimate_bytes(plan, rate)
        how = "a rough guess" if rate is None else f"measured on {rate.images} images"
        lines = [
            f"{plan.kind}: {_describe_classes(plan)}, {plan.samples} images of {size} as {plan.encoding['format']}, seed {plan.seed}",
            f"{plan.num_shards} shards of at most {plan.samples_per_shard} images, batches of {plan.batch_size} -> {self.out}",
            f"about {format_bytes(total)} in all, {format_bytes(image)} an image ({how})",
        ]
        if self.left < plan.samples:
            lines.append(f"{plan.samples - self.left} images are made already, {self.left} are missing")
        if rate is not None:
            lines += self._describe_time(rate)
        if self.gflop is not None:
            lines += self._describe_arithmetic(self.gflop)
        if self.listed:
            lines.append(
                "the weights are not on this machine, so the catalogue was asked and nothing was measured; after a first, small "
                "`ppgen synth` this command measures"
            )
        lines.append("nothing was written; the same command without `plan` makes it")
        return "\n".join(lines)

    def _describe_arithmetic(self, gflop: float) -> list[str]:
        source, hours = self.plan.source, least_hours(gflop, self.left)
        price = "" if self.price_per_hour is None else f", {hours * self.price_per_hour:.2f}"
        return [
            f"licence {source['licence']}, revision {source['revision']}",
            f"{gflop:,.1f} GFLOP an image with the default settings: at least {hours:.2f} GPU-hours{price} on one H100, at "
            f"{MATRIX_RATE / 1e12:.0f} TFLOP/s",
        ]

    def _describe_time(self, rate: Rate) -> list[str]:
        each = rate.images_per_s
        worker_hours = self.left / each / 3600
        workers = f"{self.workers} worker{'s' if self.workers > 1 else ''}"
        speed = f"{each:.1f} images/s a worker on {rate.device}, {each * self.workers:.1f} with {workers}"
        unit = "GPU" if rate.device.startswith("cuda") else "worker"
        duration = format_duration(worker_hours / self.workers * 3600)
        time = f"about {duration} with {workers}: {worker_hours:.2f} {unit}-hours"
        if self.price_per_hour is not None:
            time += f", {worker_hours * self.price_per_hour:.2f} at {self.price_per_hour:g} an hour"
        return [speed, time]


def estimate_bytes(plan: Plan, rate: Rate | None) -> tuple[int, int]:
    """(bytes of the whole directory, bytes of an encoded image)."""
    if rate is None:
        image = plan.resolution**2 * plan.channels * _ROUGH_BYTES[plan.encoding["format"]]
        row: float = _ROUGH_ROW
    else:
        image, row = rate.bytes_per_image, rate.row_bytes
    return int(plan.samples * _sample_bytes(plan.kind, plan.num_classes, image, row)), int(image)


def guess_bytes(
    kind: str, *, resolution: int, channels: int, num_classes: int, image_format: str = "auto"
) -> int:
    """Rough number of bytes of a sample, with tar and parquet, without a plan."""
    if image_format == "auto":
        image_format = "png" if resolution <= LOSSLESS_UP_TO else "jpg"
    return int(
        _sample_bytes(kind, num_classes, resolution**2 * channels * _ROUGH_BYTES[image_format], _ROUGH_ROW)
    )


def _sample_bytes(kind: str, num_classes: int, image: float, row: float) -> float:
    label = 1 if kind == "synth" else 128 + 4 * num_classes  # <key>.cls or <key>.soft.npy
    # A member is padded to whole blocks: half a block more on average, exactly as much for the label.
    member = 2 * TAR_BLOCK + image + TAR_BLOCK / 2 + -(-label // TAR_BLOCK) * TAR_BLOCK
    return member + 2 * row  # rows: in meta/ and in the manifest


def format_bytes(count: float) -> str:
    """`62.4 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _describe_classes(plan: Plan) -> str:
    if plan.kind == "synth":
        return f"{len(plan.classes)} of {plan.num_classes} classes of {plan.source['name']}"
    assert plan.target is not None
    assert plan.condition is not None
    return (
        f"{plan.condition['mode']} conditions from {plan.target['images']} images of {plan.target['name']} "
        f"over {plan.num_classes} classes of {plan.source['name']}"
    )
