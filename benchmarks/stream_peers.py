"""The peers' side of benchmarks/stream.py; runs in their own virtual environment and imports nothing of this project.

python stream_peers.py PEER SHARDS SIDE BATCH SECONDS CORES FED      # prints images/s
"""

from __future__ import annotations

import io
import shutil
import sys
import tarfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torchvision import transforms as T


class TwoViews:
    """One Pillow image -> (weak, strong), float tensors."""

    def __init__(self, fed: int, side: int) -> None:
        crop = (
            T.RandomResizedCrop(fed, scale=(0.35, 1.0)) if side > 64 else T.RandomCrop(fed, padding=fed // 8)
        )
        self.weak = T.Compose([crop, T.RandomHorizontalFlip(), T.ToTensor()])
        self.strong = T.Compose([crop, T.RandomHorizontalFlip(), T.RandAugment(), T.ToTensor()])

    def __call__(self, image: Image.Image) -> tuple[torch.Tensor, torch.Tensor]:
        return self.weak(image), self.strong(image)

    def decode(self, data: bytes) -> tuple[torch.Tensor, torch.Tensor]:
        return self(Image.open(io.BytesIO(data)).convert("RGB"))


def samples(folder: Path) -> Iterator[tuple[bytes, int]]:
    """(JPEG, class) of every sample of the tars."""
    for path in sorted((folder / "shards").glob("*.tar")):
        with tarfile.open(path) as archive:
            parts: dict[str, bytes] = {}
            for member in archive:
                handle = archive.extractfile(member)
                assert handle is not None
                parts[member.name.split(".", 1)[1]] = handle.read()
                if len(parts) == 2:
                    yield parts["jpg"], int(parts["cls"])
                    parts = {}


def webdataset_batches(folder: Path, batch: int, cores: int, views: TwoViews) -> Iterable[Any]:
    import webdataset as wds

    urls = [str(path) for path in sorted((folder / "shards").glob("*.tar"))]
    stages = [
        wds.ResampledShards(urls),
        wds.split_by_worker,
        wds.tarfile_to_samples(),
        wds.shuffle(1000),
        wds.decode("pilrgb"),
        wds.to_tuple("jpg", "cls"),
        wds.map_tuple(views, lambda label: label),
        wds.map(lambda pair: (*pair[0], pair[1])),
        wds.batched(batch, partial=False),
    ]
    return wds.WebLoader(wds.DataPipeline(*stages), batch_size=None, num_workers=cores)


def litdata_batches(folder: Path, batch: int, cores: int, views: TwoViews) -> Iterable[Any]:
    from litdata import StreamingDataLoader, StreamingDataset
    from litdata.streaming.writer import BinaryWriter

    converted = folder.with_name(folder.name + "-litdata")
    if not (converted / "index.json").exists():
        shutil.rmtree(converted, ignore_errors=True)
        writer = BinaryWriter(str(converted), chunk_bytes="32MB")
        for index, (image, label) in enumerate(samples(folder)):
            writer[index] = {"image": image, "cls": label}
        writer.done()
        writer.merge()

    class Views(StreamingDataset):  # type: ignore[misc]
        def __getitem__(self, index: Any) -> tuple[torch.Tensor, torch.Tensor, int]:
            item = super().__getitem__(index)
            return (*views.decode(item["image"]), item["cls"])

    return StreamingDataLoader(Views(str(converted), shuffle=True), batch_size=batch, num_workers=cores)


def streaming_batches(folder: Path, batch: int, cores: int, views: TwoViews) -> Iterable[Any]:
    from streaming import MDSWriter, StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    clean_stale_shared_memory()
    converted = folder.with_name(folder.name + "-mds")
    if not (converted / "index.json").exists():
        shutil.rmtree(converted, ignore_errors=True)
        columns = {"image": "bytes", "cls": "int"}
        with MDSWriter(out=str(converted), columns=columns, size_limit="32mb") as writer:
            for image, label in samples(folder):
                writer.write({"image": image, "cls": label})

    class Views(StreamingDataset):  # type: ignore[misc]
        def __getitem__(self, index: Any) -> tuple[torch.Tensor, torch.Tensor, int]:
            item = super().__getitem__(index)
            return (*views.decode(item["image"]), item["cls"])

    data = Views(local=str(converted), shuffle=True, batch_size=batch)
    return torch.utils.data.DataLoader(data, batch_size=batch, num_workers=cores)


def main() -> None:
    peer, folder, side, batch, seconds, cores, fed = sys.argv[1:]
    torch.set_num_threads(1)
    make = {
        "webdataset": webdataset_batches,
        "litdata": litdata_batches,
        "streaming": streaming_batches,
    }[peer]
    loader = make(Path(folder), int(batch), int(cores), TwoViews(int(fed), int(side)))
    warm, step, done, start = 2 * int(cores) + 2, 0, 0, 0.0
    while True:
        for _ in loader:
            step += 1
            if step == warm:
                start, done = time.monotonic(), 0
                continue
            done += int(batch)
            if start and time.monotonic() - start > float(seconds):
                print(done / (time.monotonic() - start), flush=True)
                return


if __name__ == "__main__":
    main()
