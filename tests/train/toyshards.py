"""Shard directories and pictures for the trainer's tests, written without ppgen."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from ppcore.shards import VERSION

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


def write_target(root: Path) -> Path:
    """An image folder of the same four classes: 12 training and 6 test images a class, 8 pixels, grey."""
    for split, count in (("train", 12), ("test", 6)):
        for label, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = picture(label + len(CLASSES) * (number + 100 * (split == "test")), 8, 1)
                noise = np.random.default_rng(number).integers(0, 16, pixels.shape).astype(np.uint8)
                Image.fromarray((pixels // 16 * 15 + noise)[:, :, 0]).save(folder / f"{number:03d}.png")
    return root


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
    target_ids: Sequence[str] = ("image",),
) -> Path:
    """A finished shard directory with so many samples in each shard.

    Pseudo samples are conditioned on `target_ids` in turn, the soft label of the i-th being mostly class i modulo the classes.
    """
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
        "version": VERSION,
        "kind": kind,
        "fingerprint": f"{root.name}-{sum(counts)}",
        "source": {"name": "toy", "class_names": list(CLASSES)},
        "classes": list(range(len(CLASSES))) if kind == "synth" else [],
        "resolution": resolution,
        "channels": channels,
        "target": {"name": "target", "label_seed": None} if kind == "pseudo" else None,
        **(plan or {}),
    }
    _write_conditions(root, index, kind, list(target_ids))
    (root / "plan.json").write_text(json.dumps(content))
    (root / "index.json").write_text(json.dumps({"shardlist": entries}))
    return root


def _write_conditions(root: Path, samples: int, kind: str, target_ids: list[str]) -> None:
    """The columns of manifest.parquet that say what samples were conditioned on, and conditions.parquet."""
    synth = kind == "synth"
    labels = pa.array([i % len(CLASSES) if synth else None for i in range(samples)], pa.int32())
    images = pa.array(
        [None if synth else target_ids[i % len(target_ids)] for i in range(samples)], pa.string()
    )
    pq.write_table(pa.table({"class": labels, "target_id": images}), root / "manifest.parquet")
    if not synth:
        soft = np.full((len(target_ids), len(CLASSES)), 0.1, dtype=np.float32)
        soft[np.arange(len(target_ids)), np.arange(len(target_ids)) % len(CLASSES)] = 0.7
        pq.write_table(pa.table({"target_id": target_ids, "soft": list(soft)}), root / "conditions.parquet")
