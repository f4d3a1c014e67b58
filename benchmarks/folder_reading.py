"""How long a folder of 100,000 image files takes to read: ours beside `torchvision.datasets.ImageFolder`.

    python benchmarks/folder_reading.py                  makes the files in a temporary folder and removes them: about 2 minutes
    python benchmarks/folder_reading.py --folder DIR     takes the files in DIR, and makes them there if DIR does not exist
    python benchmarks/folder_reading.py --datasets       measures `datasets.load_dataset("imagefolder")`, too

Both sides read the same files in one process, alternating, after a first pass that is not counted. No image is opened. Exit status 1
if the median of ours takes more than 1.5 times as long.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from PIL import Image

CLASSES = 100
ROUNDS = 3
MOST = 1.5


def make(root: Path, images: int) -> None:
    """`images` files of 8 x 8 pixels in 100 class folders below `train`."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    for label in range(CLASSES):
        folder = root / "train" / f"c{label:03d}"
        folder.mkdir(parents=True)
        for number in range(images // CLASSES):
            (folder / f"{number:05d}.jpg").write_bytes(file.getvalue())


def timed(read: Callable[[], int]) -> tuple[float, int]:
    """(seconds, number of images)."""
    start = time.perf_counter()
    images = read()
    return time.perf_counter() - start, images


def hugging_face(root: str) -> tuple[float, int, float]:
    """(seconds, number of images, GiB of the process) of `load_dataset` without a cache."""
    os.environ["HF_DATASETS_OFFLINE"] = "1"
    from datasets import load_dataset

    with tempfile.TemporaryDirectory(prefix="folder-reading-") as cache:
        seconds, images = timed(
            lambda: len(load_dataset("imagefolder", data_dir=root, cache_dir=cache, split="train"))
        )
    return seconds, images, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(root: Path, with_datasets: bool) -> bool:
    """Print the figures. Returns whether the bar is met."""
    from torchvision.datasets import ImageFolder

    from ppcore.targets import load_target

    def ours() -> int:
        target = load_target(str(root))
        return len(target.train) + len(target.test)

    sides: dict[str, Callable[[], int]] = {
        "ImageFolder": lambda: len(ImageFolder(str(root / "train"))),
        "load_target": ours,
    }
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for turn in range(ROUNDS + 1):
        counts = {}
        for side, read in sides.items():
            taken, counts[side] = timed(read)
            if turn:
                seconds[side].append(taken)
        if len(set(counts.values())) > 1:
            raise SystemExit(f"the sides read different numbers of images: {counts}")
    medians = {side: statistics.median(values) for side, values in seconds.items()}
    print(f"{counts['load_target']} images in {CLASSES} class folders, medians of {ROUNDS}")
    for side, median in medians.items():
        print(f"{side:14} {median:6.2f} s  ({', '.join(f'{value:.2f}' for value in seconds[side])})")
    if with_datasets:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            taken, images, peak = pool.submit(hugging_face, str(root)).result()
        print(f"{'load_dataset':14} {taken:6.2f} s  {images} images, peak {peak:.2f} GiB")
    ratio = medians["load_target"] / medians["ImageFolder"]
    met = ratio <= MOST
    print(f"{'ok  ' if met else 'BAD '} {ratio:.2f} times the time of ImageFolder, at most {MOST}")
    return met


def main() -> None:
    parser = argparse.ArgumentParser(description="Reading a folder of many images.")
    parser.add_argument("--folder", type=Path, help="where the files are, or are made and kept")
    parser.add_argument("--images", type=int, default=100_000, help="how many are made (default: 100,000)")
    parser.add_argument(
        "--datasets", action="store_true", help="measure Hugging Face datasets, too (minutes)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="folder-reading-") as temporary:
        root = options.folder or Path(temporary, "photos")
        if not root.is_dir():
            make(root, options.images)
        met = measure(root, options.datasets)
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
