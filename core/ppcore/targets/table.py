"""Target tasks: a name, an image folder, Hugging Face image parquet or WebDataset tars -> labelled images."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ppcore.errors import UserError
from ppcore.seeds import derive, numpy_rng
from ppcore.targets import readers as target_readers

CARS_DATASET = "hf://datasets/tanganke/stanford_cars@269de5dca6d88c0f1426f8ad0dc070c0b030bb3d"
"""Stanford Cars (Krause et al. 2013), 196 classes, as parquet; torchvision's own download link is dead."""

_TEST_SHARE = 5  # a target without a test split gives up every fifth image of a class
Loader = Callable[[int], np.ndarray]


@dataclass(frozen=True)
class ImageSet:
    """Labelled images, decoded on demand.

    Attributes:
        ids: unique, stable names.
        labels: int64 (N,), positions in the target's `classes`.
        load: position -> uint8 (H, W, C) with C 1 or 3; raises UserError for a damaged image.
    """

    ids: list[str]
    labels: np.ndarray
    load: Loader

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, position: int) -> np.ndarray:
        """uint8 (H, W, C), C 1 or 3."""
        return self.load(position)

    def select(self, positions: Sequence[int] | np.ndarray) -> ImageSet:
        """The images at `positions`, in that order."""
        chosen = np.asarray(positions, dtype=np.int64)
        load = self.load
        return ImageSet([self.ids[p] for p in chosen], self.labels[chosen], lambda p: load(int(chosen[p])))


@dataclass(frozen=True)
class Target:
    """The small labelled task: its class names, its training and its test images (disjoint)."""

    name: str
    classes: tuple[str, ...]
    train: ImageSet
    test: ImageSet


def load_target(spec: str) -> Target:
    """Open a target.

    Args:
        spec: `digits` (scikit-learn's handwritten digits, UCI); `cars` (a local copy at $PPTRANSFER_DATA/cars or data/cars,
            else the hub's parquet); an image folder (`class/*.png` or `train/class/*` and `test/class/*`); Hugging Face image
            parquet (a folder of `train*.parquet` and `test*.parquet`, one file, or `hf://datasets/ORG/NAME@REVISION`);
            WebDataset tars (a folder of `train*.tar` and `test*.tar`); or `train=GLOB,test=GLOB` naming files outright.

    A target without a test split gives up a fixed fifth of every class, chosen by a hash of the image's name.

    Raises:
        UserError: no such target, empty, or with a class structure that cannot be read.
    """
    if spec == "digits":
        train, test, classes = target_readers.read_digits()
        return _target("digits", train, test, classes)
    if spec == "cars":
        spec = _local_copy("cars") or CARS_DATASET
        return _target("cars", *target_readers.read_files(spec))
    train, test, classes = target_readers.read_files(spec)
    return _target(_short_name(spec), train, test, classes)


def few_shot(labels: np.ndarray, per_class: int | None, seed: int) -> np.ndarray:
    """Positions of `per_class` images of every class: int64, ascending.

    Nested (2 labels a class are among 5 labels a class of the same seed) and a function of `labels` and `seed` alone, so
    that ppgen and pptrain choose the same images. None keeps every image.

    Raises:
        UserError: a class has fewer images than asked for.
    """
    if per_class is None:
        return np.arange(len(labels), dtype=np.int64)
    if per_class < 1:
        raise UserError(f"labels per class is {per_class}; give at least 1")
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < per_class:
            raise UserError(
                f"{per_class} labels a class were asked for but class {int(label)} has only {len(members)} training images; "
                f"lower --labels-per-class"
            )
        chosen.append(numpy_rng(seed, "few-shot", int(label)).permutation(members)[:per_class])
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def stack(images: ImageSet, resolution: int, channels: int) -> torch.Tensor:
    """All images as one uint8 tensor (N, C, R, R): shorter side resized to R (bicubic), centre cropped.

    Raises:
        UserError: a damaged image.
    """
    batch = torch.empty(len(images), channels, resolution, resolution, dtype=torch.uint8)
    for position in range(len(images)):
        batch[position] = fit(images.image(position), resolution, channels)
    return batch


def fit(image: np.ndarray, resolution: int, channels: int) -> torch.Tensor:
    """uint8 (H, W, C) -> uint8 (C', R, R): converted to `channels`, shorter side to R (bicubic, antialiased), centre crop."""
    from PIL import Image

    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    picture = picture.convert("L" if channels == 1 else "RGB")
    width, height = picture.size
    scale = resolution / min(width, height)
    if scale != 1.0:
        size = (max(resolution, round(width * scale)), max(resolution, round(height * scale)))
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    left, top = (picture.width - resolution) // 2, (picture.height - resolution) // 2
    array = np.array(picture.crop((left, top, left + resolution, top + resolution)))
    return torch.from_numpy(array.reshape(resolution, resolution, channels)).permute(2, 0, 1)


def _target(
    name: str, train: target_readers.Rows, test: target_readers.Rows | None, classes: Sequence[str]
) -> Target:
    if not len(train.ids):
        raise UserError(f"target {name!r} has no training images; point at a folder or file that holds some")
    if test is None:
        train, test = _hold_out(train)
    return Target(name, tuple(classes), ImageSet(*train), ImageSet(*test))


def _hold_out(rows: target_readers.Rows) -> tuple[target_readers.Rows, target_readers.Rows]:
    """A fixed fifth of every class for test, in the order of a hash of the names (so new images change little)."""
    ranks = np.array([hashlib.sha256(name.encode()).hexdigest() for name in rows.ids])
    held: list[int] = []
    for label in np.unique(rows.labels):
        members = np.flatnonzero(rows.labels == label)
        held.extend(members[np.argsort(ranks[members])][: len(members) // _TEST_SHARE].tolist())
    test = np.sort(np.array(held, dtype=np.int64))
    train = np.setdiff1d(np.arange(len(rows.ids)), test)
    return rows.select(train), rows.select(test)


def _local_copy(name: str) -> str | None:
    for root in (os.environ.get("PPTRANSFER_DATA"), "data"):
        if root and Path(root, name).is_dir():
            return str(Path(root, name))
    return None


def _short_name(spec: str) -> str:
    """A name fit for a directory: the last part of the path, with a hash where that part alone says too little."""
    if "=" in spec:
        return f"files-{derive(0, spec) % 16**8:08x}"
    return Path(spec.split("@")[0].rstrip("/")).name.split(".")[0] or "target"
