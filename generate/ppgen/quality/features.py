"""Measures a random part of a shard directory or target: perceptual hashes, features and probabilities of the source classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from ppcore.classifiers import Classifier, find_heads, to_grey
from ppcore.errors import UserError
from ppcore.images import Preparation, decode
from ppcore.seeds import numpy_rng
from ppcore.shards import RawSample, ShardSet
from ppcore.targets import ImageSet, decode_ahead
from ppgen.plan import one_hot
from ppgen.sources import require_defined

_BATCH = 100

OnBatch = Callable[[int], None]


@dataclass(frozen=True)
class SampleSet:
    """What was measured on n images.

    Attributes:
        name: for the report.
        position: int64 (n,), positions in the directory or target.
        hashes: uint64 (n,), see :func:`dhash`.
        condition: float32 (n, K), conditions of generated samples; None for target images.
        features: float32 (n, D); None without a classifier, or if it has no linear head.
        probabilities: float32 (n, K), None without a classifier.
    """

    name: str
    position: np.ndarray
    hashes: np.ndarray
    condition: np.ndarray | None = None
    features: np.ndarray | None = None
    probabilities: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.position)

    def select(self, chosen: np.ndarray) -> SampleSet:
        """The part of the set at these indices, int (m,)."""

        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "name"}
        parts: dict[str, Any] = {n: None if a is None else a[chosen] for n, a in arrays.items()}
        return SampleSet(self.name, **parts)

    def take(self, count: int, seed: int) -> SampleSet:
        """A random part of `count` images, fixed by `seed`; all if there are no more."""
        if len(self) <= count:
            return self
        return self.select(numpy_rng(seed, "take").permutation(len(self))[:count])


def measure_shards(
    shards: ShardSet,
    classifier: Classifier | None,
    count: int,
    seed: int,
    on_batch: OnBatch,
    *,
    name: str = "",
) -> SampleSet:
    """Measure up to `count` samples. Shards are read in random order; every shard is a mixture of all classes.

    Args:
        on_batch: called with the number of images after every batch.

    Raises:
        UserError: a missing or damaged shard or image.
    """
    positions, rows = [], []

    def batches() -> Iterator[torch.Tensor]:
        waiting: list[np.ndarray] = []
        for position, image, condition in _choose(shards, count, seed):
            positions.append(position)
            rows.append(condition)
            waiting.append(image)
            if len(waiting) == _BATCH:
                yield _to_batch(waiting)
                waiting.clear()
        if waiting:
            yield _to_batch(waiting)

    hashes, features, probabilities = _measure(batches(), classifier, on_batch)
    return SampleSet(name, np.array(positions), hashes, np.stack(rows), features, probabilities)


def _choose(shards: ShardSet, count: int, seed: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(position, uint8 (H, W, C), float32 (K,) condition) of the chosen samples."""
    random = numpy_rng(seed, "report")
    firsts = np.cumsum([0, *(shard.samples for shard in shards.shards)])
    left = min(count, shards.samples)
    for number in random.permutation(len(shards.shards)):
        shard = shards.shards[number]
        wanted = set(random.choice(shard.samples, size=min(left, shard.samples), replace=False).tolist())
        for row, sample in enumerate(shards.read(shard)):
            if row in wanted:
                where = f"image {sample.key} in {shards.store.path(shard.path)}"
                condition = _condition(sample, shards.num_classes, where)
                image = _decoded(sample.image, shards.resolution, shards.channels, where)
                yield int(firsts[number]) + row, image, condition
        left -= len(wanted)
        if not left:
            return


def _condition(sample: RawSample, num_classes: int, where: str) -> np.ndarray:
    """The sample's condition, float32 (K,). Raises UserError if its label is no class of the source."""
    label = sample.label or 0
    valid = label < num_classes if sample.soft is None else len(sample.soft) == num_classes
    if not valid:
        raise UserError(
            f"{where} has a label outside the {num_classes} classes; run ppgen verify on its directory"
        )
    return one_hot(np.array([label]), num_classes)[0] if sample.soft is None else sample.soft


def measure_images(
    images: ImageSet,
    classifier: Classifier | None,
    count: int,
    seed: int,
    on_batch: OnBatch,
    *,
    name: str = "",
) -> SampleSet:
    """Measure up to `count` target images, prepared for the classifier as `ppgen pseudo` prepares them.

    Raises:
        UserError: a damaged image.
    """
    chosen = np.sort(numpy_rng(seed, "report").permutation(len(images))[:count])
    parts = [chosen[i : i + _BATCH] for i in range(0, len(chosen), _BATCH)]
    preparation = Preparation(64, 3)
    if classifier is not None:
        preparation, classifier = classifier.spec.preparation, classifier.whole()
    batches = decode_ahead(images, parts, preparation)
    hashes, features, probabilities = _measure(batches, classifier, on_batch)
    return SampleSet(name, chosen, hashes, None, features, probabilities)


def _measure(
    batches: Iterable[torch.Tensor], classifier: Classifier | None, on_batch: OnBatch
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """(hashes, features, probabilities) of uint8 (B, C, H, W) batches."""
    hashes: list[np.ndarray] = []
    features: list[np.ndarray] = []
    probabilities: list[np.ndarray] = []
    has_head = classifier is not None and has_features(classifier)
    for batch in batches:
        hashes.append(dhash(batch))
        if classifier is not None:
            images = batch.to(next(classifier.buffers()).device)
            with torch.inference_mode():
                if has_head:
                    embedded, logits = classifier.embed(images)
                    features.append(embedded.cpu().numpy())
                else:
                    logits = classifier(images)
            predicted = logits.softmax(dim=1).cpu()
            require_defined(predicted)
            probabilities.append(predicted.numpy())
        on_batch(len(batch))
    return (
        np.concatenate(hashes),
        np.concatenate(features) if features else None,
        np.concatenate(probabilities) if probabilities else None,
    )


def dhash(images: torch.Tensor) -> np.ndarray:
    """Difference hash (Krawetz 2013): which of 8 x 9 averaged grey cells are brighter than their left neighbour.

    Args:
        images: uint8 (B, C, H, W).

    Returns:
        uint64 (B,).
    """
    x = images.float()
    x = to_grey(x) if x.shape[1] == 3 else x
    x = F.adaptive_avg_pool2d(x, (8, 9))  # (B, 1, 8, 9)
    bits = (x[..., 1:] > x[..., :-1]).flatten(1).numpy()  # (B, 64)
    return np.packbits(bits, axis=1).view(">u8")[:, 0].astype(np.uint64)


def has_features(classifier: Classifier) -> bool:
    """Whether the classifier has a head; its input is the features."""
    try:
        find_heads(classifier.net)
    except UserError:
        return False
    return True


def _decoded(data: bytes, resolution: int, channels: int, where: str) -> np.ndarray:
    try:
        image = decode(data, channels=channels, max_side=resolution)
        if image.shape != (resolution, resolution, channels):
            raise ValueError(f"its shape is {image.shape}")
    except ValueError as error:
        raise UserError(
            f"{where} is damaged ({error}); run ppgen verify --repair on its directory"
        ) from error
    return image


def _to_batch(images: list[np.ndarray]) -> torch.Tensor:
    """uint8 (H, W, C) images of one size -> uint8 (B, C, H, W)."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
