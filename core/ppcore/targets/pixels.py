"""Images of a target as arrays and tensors: decoded, prepared for a network, stacked."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from ppcore.console import printable_name
from ppcore.errors import UserError
from ppcore.images import Preparation, decode
from ppcore.targets.target import Encoded, ImageSet

if TYPE_CHECKING:
    import torch

_SMALL_SIDE = 2  # smallest side of an image in pixels
_THREADS = min(8, os.cpu_count() or 1)
_AHEAD = 2  # parts that are decoded while the caller uses one
_LOOKED_AT = 100  # images, spread over a set, that say what its images are like


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Encoded bytes -> uint8 (H, W, C), C 1 or 3. Raises UserError with the image's name."""
    try:
        image = decode(data)
    except ValueError as error:
        raise UserError(f"image {name} is damaged ({error}); repair or remove it") from error
    if min(image.shape[:2]) < _SMALL_SIDE:
        raise UserError(f"image {name} is only {image.shape[1]}x{image.shape[0]} pixels; remove it")
    return image


def encoded_set(
    ids: Sequence[str], labels: Sequence[int] | np.ndarray, sources: Sequence[Encoded]
) -> ImageSet:
    """Images in files or encoded in memory. Errors name the file of an image, else its id."""

    def load(position: int) -> np.ndarray:
        source = sources[position]
        if isinstance(source, bytes):
            return decode_image(source, ids[position])
        try:
            return decode_image(source.read_bytes(), str(source))
        except OSError as error:
            raise UserError(
                f"image {source} cannot be read ({error.strerror}); restore or remove it"
            ) from error

    names = list(map(printable_name, ids))  # as every file can hold them
    return ImageSet(names, np.asarray(labels, dtype=np.int64), load, lambda p: sources[p])


def array_set(ids: Sequence[str], labels: np.ndarray, images: np.ndarray) -> ImageSet:
    """Decoded images: uint8 (N, H, W, C)."""
    return ImageSet(
        list(ids), labels.astype(np.int64), lambda p: images[p], lambda p: bytes(images[p].tobytes())
    )


def stack(images: ImageSet, resolution: int, channels: int) -> torch.Tensor:
    """All images as one uint8 tensor (N, C, R, R): shorter side resized to R (bicubic), centre cropped.

    Raises:
        UserError: a damaged image.
    """
    return next(decode_ahead(images, [range(len(images))], Preparation(resolution, channels)))


def decode_ahead(
    images: ImageSet, parts: Iterable[Sequence[int] | np.ndarray], preparation: Preparation
) -> Generator[torch.Tensor, None, None]:
    """The images at the positions of each part as one uint8 tensor (B, C, R, R), prepared for a network.

    Threads decode the next two parts while the caller uses one. `parts` may be endless.

    Raises:
        UserError: a damaged image.
    """
    import torch  # slow to import, not needed for commands that only list or check targets

    # The threads write to numpy arrays: a tensor made in torch.inference_mode cannot be written to in another thread.
    def put(batch: np.ndarray, row: int, position: int) -> None:
        batch[row] = preparation.fit(images.image(position))

    def take() -> torch.Tensor:
        batch, rows = waiting.popleft()
        for row in rows:
            row.result()
        return torch.from_numpy(batch)

    waiting: deque[tuple[np.ndarray, list[Future[None]]]] = deque()
    pool = ThreadPoolExecutor(_THREADS)
    try:
        for part in parts:
            side = preparation.resolution
            batch = np.empty((len(part), preparation.channels, side, side), dtype=np.uint8)
            rows = [pool.submit(put, batch, row, int(position)) for row, position in enumerate(part)]
            waiting.append((batch, rows))
            if len(waiting) > _AHEAD:
                yield take()
        while waiting:
            yield take()
    finally:
        pool.shutdown(cancel_futures=True)


def usual_channels(images: ImageSet) -> int:
    """1 if all images looked at are stored in grey, else 3. At most 100 images are decoded, spread over the set.

    Raises:
        UserError: a damaged image.
    """
    return 3 if any(images.image(p).shape[2] == 3 for p in _spread(images)) else 1


def usual_side(images: ImageSet) -> int:
    """The median of the shorter sides in pixels. At most 100 images are decoded, spread over the set.

    Raises:
        UserError: a damaged image.
    """
    sides = sorted(min(images.image(p).shape[:2]) for p in _spread(images))
    return sides[len(sides) // 2]


def _spread(images: ImageSet) -> list[int]:
    last = len(images) - 1
    return np.unique(np.linspace(0, last, _LOOKED_AT).round().astype(np.int64)).tolist()
