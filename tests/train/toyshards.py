"""Shard directories and pictures for the trainer's tests, written without ppgen."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

CLASSES = ("a", "b", "c", "d")
ShardWriter = Callable[..., Path]


def picture(index: int, resolution: int, channels: int) -> np.ndarray:
    """A picture whose first pixels spell its index, with a bright band at the height of its class."""
    pixels = np.full((resolution, resolution, channels), 16, dtype=np.uint8)
    row = index % len(CLASSES) * resolution // len(CLASSES)
    pixels[row : row + resolution // len(CLASSES)] = 200
    pixels[-1, :3] = np.array([index // 65536, index // 256 % 256, index % 256])[:, None]
    return pixels


def index_of(images: torch.Tensor) -> list[int]:
    """uint8 (B, C, H, W) of such pictures -> their indices."""
    spelled = images[:, 0, -1, :3].long()
    return (spelled[:, 0] * 65536 + spelled[:, 1] * 256 + spelled[:, 2]).tolist()


def encode(pixels: np.ndarray, extension: str) -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    picture.save(buffer, {"jpg": "JPEG", "png": "PNG"}[extension])
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def write(
    root: Path,
    counts: Sequence[int],
    *,
    kind: str = "synth",
    resolution: int = 8,
    channels: int = 1,
    extension: str = "png",
    plan: dict[str, object] | None = None,
) -> Path:
    """A finished shard directory with so many samples in each shard."""
    (root / "shards").mkdir(parents=True)
    index, entries = 0, []
    for shard, count in enumerate(counts):
        path = f"shards/{shard:06d}.tar"
        with tarfile.open(root / path, "w", format=tarfile.USTAR_FORMAT) as archive:
            for _ in range(count):
                image = encode(picture(index, resolution, channels), extension)
                _add(archive, f"{index:09d}.{extension}", image)
                if kind == "synth":
                    _add(archive, f"{index:09d}.cls", str(index % len(CLASSES)).encode())
                index += 1
        size = (root / path).stat().st_size
        entries.append({"index": shard, "url": path, "nsamples": count, "filesize": size, "sha256": "0"})
    content = {
        "format": "pptransfer-shards",
        "version": 1,
        "kind": kind,
        "fingerprint": f"{root.name}-{sum(counts)}",
        "source": {"name": "toy", "class_names": list(CLASSES)},
        "classes": list(range(len(CLASSES))) if kind == "synth" else [],
        "resolution": resolution,
        "channels": channels,
        "target": {"name": "target", "label_seed": None} if kind == "pseudo" else None,
        **(plan or {}),
    }
    (root / "plan.json").write_text(json.dumps(content))
    (root / "index.json").write_text(json.dumps({"shardlist": entries}))
    return root
