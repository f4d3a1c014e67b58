"""Pseudo samples beside the target images that conditioned them, for the eyes of a report's reader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from ppcore.images import decode
from ppcore.page.pictures import strip
from ppcore.shards import CONDITIONS, MANIFEST, ShardSet
from ppcore.storage import read_table
from ppcore.targets import Target

PAIR_STYLE = """
.pairs > div { display: flex; flex-wrap: wrap; align-items: center; gap: .3rem .8rem; }
.pairs > div { padding: .35rem 0; border-bottom: 1px solid var(--line); }
.pairs b { flex: 0 0 7rem; } .pairs span { flex: 0 0 13rem; } .pairs img { max-height: 48px; min-width: 0; }
@media (max-width: 640px) {
  .pairs b { flex: 1 1 5rem; } .pairs span { flex: 1 1 100%; order: 3; } .pairs img:last-child { order: 4; } }
"""


@dataclass(frozen=True)
class Conditioned:
    """A target image, the largest entries of its soft label, and samples it conditioned."""

    target_class: str
    image: np.ndarray
    soft: list[tuple[str, float]]
    samples: list[np.ndarray]


def conditioned(
    shards: ShardSet, target: Target, samples: int, classes: int | None = None, top: int = 3
) -> list[Conditioned]:
    """For every class of the target: one image that conditioned samples, and `samples` of them.

    Args:
        shards: a pseudo directory made from `target`.
        classes: so many of the target's classes, evenly spread; None is all.
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
    """These target images, each with the first `samples` that it conditioned."""
    with shards.store.open(MANIFEST) as handle:
        owners = read_table(handle, None, columns=["target_id"]).column("target_id").to_pylist()
    soft, position = soft_labels(shards), {name: p for p, name in enumerate(target.train.ids)}
    found: dict[str, list[int]] = {name: [] for name in ids}
    for sample, name in enumerate(owners):
        if name in found and len(found[name]) < samples:
            found[name].append(sample)
    return [
        Conditioned(
            target.classes[int(target.train.labels[position[name]])],
            target.train.image(position[name]),
            _largest(soft[name], shards.class_names, top),
            [decode(shards.fetch(sample).image) for sample in found[name]],
        )
        for name in ids
    ]


def soft_labels(shards: ShardSet) -> dict[str, np.ndarray]:
    """Target image -> float (K,), the soft label of every image that a pseudo directory was conditioned on."""
    with shards.store.open(CONDITIONS) as handle:
        rows = read_table(handle, None, row_bytes=8 * shards.num_classes).to_pylist()
    return {row["target_id"]: np.array(row["soft"]) for row in rows}


def pairs(items: Sequence[Conditioned]) -> str:
    """A line of HTML for each, in :data:`PAIR_STYLE`."""
    return f'<div class="pairs">{"".join(_pair(item) for item in items)}</div>'


def _pair(item: Conditioned) -> str:
    soft = " · ".join(f"{escape(name)} {value:.2f}" for name, value in item.soft)
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


def _largest(soft: np.ndarray, names: Sequence[str], top: int) -> list[tuple[str, float]]:
    return [(names[c], float(soft[c])) for c in np.argsort(-soft)[:top]]
