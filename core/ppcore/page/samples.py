"""Images on a page: strips and sheets of samples as data URIs, samples of every class, target images beside their pseudo samples."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
from PIL import Image, ImageDraw

from ppcore.classifiers import imagenet_class_names
from ppcore.images import decode
from ppcore.kits import IMAGENET_IDS
from ppcore.shards import CONDITIONS, MANIFEST, ShardSet
from ppcore.storage import read_table
from ppcore.targets import Target

SIDE = 64  # pixels of an image on the page
_GAP = 2
_LETTERS = 20  # pixels of a line of text


def strip(images: Sequence[np.ndarray], side: int = SIDE) -> str:
    """uint8 (H, W, C) images side by side, as a data URI."""
    return sheet(images, len(images), side)


def sheet(images: Sequence[np.ndarray], columns: int, side: int = SIDE) -> str:
    """uint8 (H, W, C) images in rows of `columns`, as a data URI.

    Images of a few pixels, such as letters, become a PNG. Larger ones become thumbnails in a lossy WebP, a tenth of the size. The gaps
    are transparent because a page is light or dark.
    """
    rows = -(-len(images) // columns)
    mode = "LA" if all(image.shape[2] == 1 for image in images) else "RGBA"
    paper = Image.new(mode, (columns * (side + _GAP) - _GAP, rows * (side + _GAP) - _GAP))
    for position, image in enumerate(images):
        picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).convert(mode)
        row, column = divmod(position, columns)
        small = picture.resize((side, side), Image.Resampling.LANCZOS)
        paper.paste(small, (column * (side + _GAP), row * (side + _GAP)))
    exact = max((max(image.shape[:2]) for image in images), default=0) <= SIDE
    buffer = io.BytesIO()
    if exact:
        paper.save(buffer, "PNG")
    else:
        paper.save(buffer, "WEBP", quality=85)
    kind = "png" if exact else "webp"
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode()


_NAME_WIDTH, _LARGEST = 220, 256  # pixels


def labelled_sheet(rows: Sequence[tuple[str, np.ndarray]]) -> bytes:
    """A PNG with one row for each (name, uint8 (n, H, W, C)): the name, then the images, 64 to 256 pixels high."""
    side = min(max(SIDE, *(images.shape[1] for _, images in rows)), _LARGEST)
    height = max(side, _LETTERS) + _GAP
    width = _NAME_WIDTH + max(len(images) for _, images in rows) * (side + _GAP)
    paper = Image.new("RGB", (width, len(rows) * height), "white")
    pen = ImageDraw.Draw(paper)
    for row, (name, images) in enumerate(rows):
        pen.text((6, row * height + height // 2), name[:30], fill="black", anchor="lm", font_size=14)
        for column, image in enumerate(images):
            picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
            paper.paste(
                picture.resize((side, side)).convert("RGB"),
                (_NAME_WIDTH + column * (side + _GAP), row * height),
            )
    buffer = io.BytesIO()
    paper.save(buffer, "PNG")
    return buffer.getvalue()


CLASS_STYLE = """
.classes { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 262px), 1fr)); gap: .5rem 1rem; }
.classes div { display: flex; align-items: center; gap: .6rem; } .classes b { min-width: 1.4rem; max-width: 40%; text-align: right; }
.classes img { height: 32px; min-width: 0; object-fit: contain; }
"""


def class_strips(shards: ShardSet, per_class: int) -> str:
    """The first `per_class` samples of every class that occurs, as HTML; needs the CSS :data:`CLASS_STYLE`."""
    lines = (
        f'<div><b>{escape(name)}</b><img alt="{len(images)} samples of class {escape(name)}" src="{strip(images)}"></div>'
        for name, images in _first_samples(shards, per_class).items()
    )
    return f'<div class="classes">{"".join(lines)}</div>'


def _first_samples(shards: ShardSet, per_class: int) -> dict[str, list[np.ndarray]]:
    """Class name -> uint8 (H, W, C) images."""
    shown: dict[int, list[np.ndarray]] = {label: [] for label in shards.classes}
    for shard in shards.shards:
        for sample in shards.read(shard):
            images = shown[int(sample.label or 0)]
            if len(images) < per_class:
                images.append(decode(sample.image))
        if all(len(images) == per_class for images in shown.values()):
            break
    return {shards.class_names[label]: images for label, images in shown.items() if images}


PAIR_STYLE = """
.pairs > div { display: flex; flex-wrap: wrap; align-items: center; gap: .3rem .8rem; }
.pairs > div { padding: .35rem 0; border-bottom: 1px solid var(--line); }
.pairs b { flex: 0 0 7rem; } .pairs span { flex: 0 0 13rem; } .pairs img { max-height: 48px; min-width: 0; }
@media (max-width: 640px) {
  .pairs b { flex: 1 1 5rem; } .pairs span { flex: 1 1 100%; order: 3; } .pairs img:last-child { order: 4; } }
"""


@dataclass(frozen=True)
class Conditioned:
    """A target image, the largest entries of its soft label, and samples that it conditioned.

    Attributes:
        soft: (class, probability) as used for the samples.
        raw: the same entries at temperature 1; empty if they are the same.
    """

    target_class: str
    image: np.ndarray
    soft: list[tuple[str, float]]
    samples: list[np.ndarray]
    raw: list[float] = field(default_factory=list)


def conditioned(
    shards: ShardSet, target: Target, samples: int, classes: int | None = None, top: int = 3
) -> list[Conditioned]:
    """For each class of the target: one image that conditioned samples, with `samples` of these samples.

    Args:
        shards: a pseudo directory made from `target`.
        classes: number of classes to show, evenly spread; None shows all.
        top: entries of the soft label to show.
    """
    position = {name: p for p, name in enumerate(target.train.ids)}
    chosen: dict[int, str] = {}
    for name in sorted(soft_labels(shards).keys() & position.keys()):
        chosen.setdefault(int(target.train.labels[position[name]]), name)
    labels = sorted(chosen)
    if classes is not None and len(labels) > classes:
        labels = [labels[i] for i in np.linspace(0, len(labels) - 1, classes).astype(int)]
    return conditioned_by(shards, target, [chosen[label] for label in labels], samples, top)


def conditioned_by(
    shards: ShardSet, target: Target, ids: Sequence[str], samples: int, top: int = 3
) -> list[Conditioned]:
    """The target images `ids`, each with the first `samples` samples that it conditioned."""
    with shards.store.open(MANIFEST) as handle:
        owners = read_table(handle, None, columns=["target_id"]).column("target_id").to_pylist()
    soft, position = soft_labels(shards), {name: p for p, name in enumerate(target.train.ids)}
    shown: dict[str, list[int]] = {name: [] for name in ids}
    for sample, name in enumerate(owners):
        if name in shown and len(shown[name]) < samples:
            shown[name].append(sample)
    words = class_words(shards.class_names)
    temperature = float((shards.plan.get("condition") or {}).get("temperature", 1))
    largest = {name: np.argsort(-soft[name])[:top] for name in ids}
    return [
        Conditioned(
            target.classes[int(target.train.labels[position[name]])],
            target.train.image(position[name]),
            [(words[c], float(soft[name][c])) for c in largest[name]],
            [decode(shards.fetch(sample).image) for sample in shown[name]],
            [] if temperature == 1 else [float(raw_label(soft[name], temperature)[c]) for c in largest[name]],
        )
        for name in ids
    ]


def raw_label(soft: np.ndarray, temperature: float) -> np.ndarray:
    """The soft label before it was sharpened: (K,) used at `temperature` -> (K,) at temperature 1, since p_T is p^(1/T) normalised.

    Classes that `--top-k` cut stay 0.
    """
    raw = soft**temperature * (soft > 0)
    return raw / raw.sum()


def class_words(names: Sequence[str]) -> list[str]:
    """Names of classes for people: WordNet ids of ImageNet's classes as words."""
    if not set(names) & set(IMAGENET_IDS):
        return list(names)
    words = dict(zip(IMAGENET_IDS, imagenet_class_names(), strict=True))
    return [words.get(name, name) for name in names]


def soft_labels(shards: ShardSet) -> dict[str, np.ndarray]:
    """Id of a target image -> its soft label, float (K,), for all images that conditioned a pseudo directory."""
    with shards.store.open(CONDITIONS) as handle:
        rows = read_table(handle, None, row_bytes=8 * shards.num_classes).to_pylist()
    return {row["target_id"]: np.array(row["soft"]) for row in rows}


def pairs(items: Sequence[Conditioned]) -> str:
    """One row of HTML for each item; needs the CSS :data:`PAIR_STYLE`."""
    return f'<div class="pairs">{"".join(_pair(item) for item in items)}</div>'


def _pair(item: Conditioned) -> str:
    raw = [f" ({value:.2f})" for value in item.raw] or [""] * len(item.soft)
    soft = " · ".join(
        f"{escape(name)} {value:.2f}{before}" for (name, value), before in zip(item.soft, raw, strict=True)
    )
    name = escape(item.target_class)
    samples = ""
    if item.samples:
        samples = (
            f'<img alt="{len(item.samples)} pseudo samples conditioned on it" src="{strip(item.samples)}">'
        )
    return (
        f'<div><b>{name}</b><img alt="target image of class {name}" src="{strip([item.image])}">'
        f"<span>{soft}</span>{samples}</div>"
    )
