"""Pictures of a report: strips of shard samples and of target images, as PNG data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ppcore.images import decode
from ppcore.shards import ShardSet
from ppcore.targets import load_target

_SIDE = 64  # pixels of an image on the page


def strip(images: Sequence[np.ndarray], side: int = _SIDE) -> str:
    """uint8 (H, W, C) images side by side, as a PNG data URI."""
    gap = 2
    sheet = Image.new("RGB", (len(images) * (side + gap) - gap, side), "white")
    for position, image in enumerate(images):
        picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).convert("RGB")
        sheet.paste(picture.resize((side, side), Image.Resampling.LANCZOS), (position * (side + gap), 0))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def by_class(folder: str, per_class: int) -> dict[str, list[np.ndarray]]:
    """The first `per_class` samples of every class of a synth directory, by class name."""
    shards = ShardSet.open(folder, kind="synth")
    found: dict[int, list[np.ndarray]] = {label: [] for label in shards.classes}
    for shard in shards.shards:
        for sample in shards.read(shard):
            images = found[int(sample.label or 0)]
            if len(images) < per_class:
                images.append(decode(sample.image))
        if all(len(images) == per_class for images in found.values()):
            break
    return {shards.class_names[label]: images for label, images in found.items() if images}


@dataclass(frozen=True)
class Conditioned:
    """A target image, the largest entries of its soft label, and samples it conditioned."""

    target_class: str
    image: np.ndarray
    soft: list[tuple[str, float]]
    samples: list[np.ndarray]


def conditioned(folder: str, target_spec: str, samples: int, top: int = 3) -> list[Conditioned]:
    """For every class of a pseudo directory's target: one conditioning image and samples made from it."""
    import pyarrow.parquet as pq

    shards = ShardSet.open(folder, kind="pseudo")
    rows = pq.read_table(
        io.BytesIO(shards.store.read("manifest.parquet")), columns=["key", "target_id"]
    ).to_pylist()
    target = load_target(target_spec)
    position = {name: p for p, name in enumerate(target.train.ids)}
    chosen: dict[int, str] = {}
    for name in sorted({row["target_id"] for row in rows}):
        chosen.setdefault(int(target.train.labels[position[name]]), name)
    wanted = {row["key"]: row["target_id"] for row in rows if row["target_id"] in chosen.values()}
    images: dict[str, list[np.ndarray]] = {name: [] for name in chosen.values()}
    for shard in shards.shards:
        for sample in shards.read(shard):
            name = wanted.get(sample.key)
            if name is not None and len(images[name]) < samples:
                images[name].append(decode(sample.image))
    soft = _soft_labels(shards)
    return [
        Conditioned(
            target.classes[label],
            target.train.image(position[name]),
            _largest(soft[name], shards.class_names, top),
            images[name],
        )
        for label, name in sorted(chosen.items())
    ]


def _soft_labels(shards: ShardSet) -> dict[str, np.ndarray]:
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(shards.store.read("conditions.parquet")))
    return {row["target_id"]: np.array(row["soft"]) for row in table.to_pylist()}


def _largest(soft: np.ndarray, names: Sequence[str], top: int) -> list[tuple[str, float]]:
    return [(names[c], float(soft[c])) for c in np.argsort(-soft)[:top]]
