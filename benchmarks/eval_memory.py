"""How much memory does the evaluation of 50,000 images of 256 pixels need?

Writes the images as JPEG files below a temporary folder (50 pictures, linked 1,000 times each), evaluates a network of 224 pixels with
random weights on them, and ends with status 1 if the process grew by 500 MB or more:

.venv/bin/python benchmarks/eval_memory.py
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from ppcore.classifiers import Classifier, ClassifierSpec, build
from ppcore.targets import load_target
from pptrain.evaluation import evaluate

PICTURES, CLASSES, SIDE, LIMIT_MB = 50, 10, 256, 500


def write_images(root: Path, count: int) -> None:
    """`count` test images and a training image of every class."""
    rng, places = np.random.default_rng(0), []
    for label in range(CLASSES):
        for split in ("train", "test"):
            (root / split / f"c{label}").mkdir(parents=True)
    for number in range(PICTURES + CLASSES):
        coarse = rng.integers(0, 256, (24, 24, 3)).astype(np.uint8)
        split = "train" if number >= PICTURES else "test"
        place = root / split / f"c{number % CLASSES}" / f"{number:06d}.jpg"
        Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(place, quality=90)
        places.append(place)
    for number in range(PICTURES, count):
        first = places[number % PICTURES]
        os.link(first, first.with_name(f"{number:06d}.jpg"))


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def main() -> int:
    """Print the figures; 1 if the bar is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--arch", default="mobilenet_v3_small")
    chosen = parser.parse_args()
    spec = ClassifierSpec(chosen.arch, tuple(f"c{k}" for k in range(1000)), 3, 224, SIDE)
    classifier = Classifier(build(chosen.arch, 1000, 3), spec)
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), chosen.images)
        before, begun = resident_mb(), time.monotonic()
        found = evaluate(classifier, load_target(folder).test)
        seconds = time.monotonic() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    decoded = found.images * 3 * SIDE**2 / 1e6
    print(
        f"{found.images} images of {SIDE} pixels ({decoded:.0f} MB decoded), {chosen.arch} at 224 pixels, 1000 classes: "
        f"{before:.0f} MB before, {peak:.0f} MB at most, {peak - before:.0f} MB more; {found.images / seconds:.0f} images/s"
    )
    met = peak - before < LIMIT_MB
    print(f"{'ok  ' if met else 'MISS'} grows by less than {LIMIT_MB} MB")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
