"""What a report shows of shards: samples by class."""

from __future__ import annotations

import numpy as np

from ppcore.images import decode
from ppcore.shards import ShardSet


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
