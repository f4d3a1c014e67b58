"""WebDataset tars of `<key>.<image>` and `<key>.cls` (an integer)."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from ppcore.errors import UserError
from ppcore.images import IMAGE_EXTENSIONS
from ppcore.targets.pixels import encoded_set
from ppcore.targets.target import ImageSet


def read_tars(files: Sequence[str]) -> tuple[ImageSet, tuple[str, ...]]:
    """All images of the tars, held encoded in memory; tars name no classes."""
    ids: list[str] = []
    blobs: list[bytes] = []
    labels: list[int] = []
    for file in files:
        for key, image, label in _labelled_images(file):
            ids.append(f"{Path(file).stem}/{key}")
            blobs.append(image)
            labels.append(label)
    return encoded_set(ids, labels, blobs), ()


def _labelled_images(file: str) -> Iterator[tuple[str, bytes, int]]:
    """(key, encoded image, label) of every image."""
    images: dict[str, bytes] = {}
    labels: dict[str, int] = {}
    try:
        with tarfile.open(file) as archive:
            for member in archive:
                handle = archive.extractfile(member) if member.isfile() else None
                folder, _, base = member.name.rpartition("/")
                key, _, extension = base.partition(".")
                if handle is None or not key:
                    continue
                if extension.lower() in IMAGE_EXTENSIONS:
                    images[f"{folder}/{key}"] = handle.read()
                elif extension == "cls":
                    labels[f"{folder}/{key}"] = int(handle.read())
    except (tarfile.TarError, OSError, ValueError) as error:
        raise UserError(
            f"{file} cannot be read as a WebDataset tar ({error}); expected <key>.jpg and <key>.cls members"
        ) from error
    for key, image in images.items():
        if key not in labels:
            raise UserError(
                f"{file}: image {key.lstrip('/')!r} has no .cls label; every image of a target needs one"
            )
        yield key.lstrip("/"), image, labels[key]
