"""Samples of every class of a synth directory, for the eyes of a report's reader."""

from __future__ import annotations

from html import escape

import numpy as np

from ppcore.images import decode
from ppcore.page.pictures import strip
from ppcore.shards import ShardSet

CLASS_STYLE = """
.classes { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 262px), 1fr)); gap: .5rem 1rem; }
.classes div { display: flex; align-items: center; gap: .6rem; } .classes b { min-width: 1.4rem; max-width: 40%; text-align: right; }
.classes img { height: 32px; min-width: 0; object-fit: contain; }
"""


def class_strips(shards: ShardSet, per_class: int) -> str:
    """The first `per_class` samples of every class that occurs, as HTML in :data:`CLASS_STYLE`."""
    lines = (
        f'<div><b>{escape(name)}</b><img alt="{len(images)} samples of class {escape(name)}" src="{strip(images)}"></div>'
        for name, images in _first_samples(shards, per_class).items()
    )
    return f'<div class="classes">{"".join(lines)}</div>'


def _first_samples(shards: ShardSet, per_class: int) -> dict[str, list[np.ndarray]]:
    """Class name -> uint8 (H, W, C) images."""
    found: dict[int, list[np.ndarray]] = {label: [] for label in shards.classes}
    for shard in shards.shards:
        for sample in shards.read(shard):
            images = found[int(sample.label or 0)]
            if len(images) < per_class:
                images.append(decode(sample.image))
        if all(len(images) == per_class for images in found.values()):
            break
    return {shards.class_names[label]: images for label, images in found.items() if images}
