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
.pairs { display: grid; grid-template-columns: fit-content(9rem) auto 12.5rem 1fr; align-items: center; gap: .5rem .8rem; }
.pairs img { height: 48px; }
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
    with shards.store.open(MANIFEST) as handle:
        ids = read_table(handle, None, columns=["target_id"]).column("target_id").to_pylist()
    with shards.store.open(CONDITIONS) as handle:
        soft = {
            row["target_id"]: np.array(row["soft"])
            for row in read_table(handle, None, row_bytes=8 * shards.num_classes).to_pylist()
        }
    position = {name: p for p, name in enumerate(target.train.ids)}
    chosen: dict[int, str] = {}
    for name in sorted(set(ids) & position.keys()):
        chosen.setdefault(int(target.train.labels[position[name]]), name)
    labels = sorted(chosen)
    if classes is not None and len(labels) > classes:
        labels = [labels[i] for i in np.linspace(0, len(labels) - 1, classes).astype(int)]
    found: dict[str, list[int]] = {chosen[label]: [] for label in labels}
    for sample, name in enumerate(ids):
        if name in found and len(found[name]) < samples:
            found[name].append(sample)
    return [
        Conditioned(
            target.classes[label],
            target.train.image(position[name]),
            _largest(soft[name], shards.class_names, top),
            [decode(shards.fetch(sample).image) for sample in found[name]],
        )
        for label in labels
        for name in [chosen[label]]
    ]


def pairs(items: Sequence[Conditioned]) -> str:
    """A line of HTML for each, in :data:`PAIR_STYLE`."""
    return f'<div class="pairs">{"".join(_pair(item) for item in items)}</div>'


def _pair(item: Conditioned) -> str:
    soft = " · ".join(f"{escape(name)} {value:.2f}" for name, value in item.soft)
    return (
        f'<b>{escape(item.target_class)}</b><img alt="target image" src="{strip([item.image])}">'
        f'<span>{soft}</span><img alt="pseudo samples" src="{strip(item.samples)}">'
    )


def _largest(soft: np.ndarray, names: Sequence[str], top: int) -> list[tuple[str, float]]:
    return [(names[c], float(soft[c])) for c in np.argsort(-soft)[:top]]
