"""How long a folder of 100,000 image files takes to read: ours beside `torchvision.datasets.ImageFolder`.

    python benchmarks/folder_reading.py                  makes the files in a temporary folder and removes them: about 2 minutes
    python benchmarks/folder_reading.py --folder DIR     takes the files in DIR, and makes them there if DIR does not exist
    python benchmarks/folder_reading.py --datasets       measures `datasets.load_dataset("imagefolder")`, too

Both sides read the same files in one process, alternating, after a first pass that is not counted. No image is opened. The files lie in
`train` (four fifths) and `test`. Exit status 1 if the fastest round of ours takes more than 1.5 times as long. A third line has ours on
files without a test split: it also hashes every name, to hold out a fifth.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from PIL import Image

CLASSES = 100
ROUNDS = 5
MOST = 1.5


def make(root: Path, images: int) -> None:
    """`images` files of 8 x 8 pixels in 100 class folders below `train` and `test`; every fifth is a test image."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    for label in range(CLASSES):
        for split in ("train", "test"):
            (root / split / f"c{label:03d}").mkdir(parents=True)
        for number in range(images // CLASSES):
            split = "train" if number % 5 else "test"
            (root / split / f"c{label:03d}" / f"{number:05d}.jpg").write_bytes(file.getvalue())


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

    def ours(options: str = "") -> int:
        target = load_target(f"{root}{options}")
        return len(target.train) + len(target.test)

    sides: dict[str, Callable[[], int]] = {
        "ImageFolder": lambda: sum(len(ImageFolder(str(root / split))) for split in ("train", "test")),
        "load_target": ours,
        "no test split": lambda: ours("?split=none&classes-from=folder:2"),
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
    fastest = {side: min(values) for side, values in seconds.items()}
    print(f"{counts['load_target']} images in {CLASSES} class folders, the fastest of {ROUNDS} rounds")
    for side, best in fastest.items():
        print(f"{side:14} {best:6.2f} s  ({', '.join(f'{value:.2f}' for value in seconds[side])})")
    if with_datasets:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            taken, images, peak = pool.submit(hugging_face, str(root)).result()
        print(f"{'load_dataset':14} {taken:6.2f} s  {images} images, peak {peak:.2f} GiB")
    ratio = fastest["load_target"] / fastest["ImageFolder"]
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
