"""How long does a batch of views take, and how much of the noise of stored images larger than the network's input is left in it?

.venv/bin/python benchmarks/training/views.py           (with PYTHONPATH=OTHER/core:OTHER/train: the views of another checkout)
"""

from __future__ import annotations

import argparse
import time

import torch

from pptrain.config.settings import ViewsConfig
from pptrain.data import ViewKey, ViewKind, Views

SIZES = ((256, 224), (256, 32), (224, 224), (32, 32))
NOISE = ViewsConfig(shift=0, min_area=1, rotate=0, shear=0, zoom=0, color=0, cutout=0)  # of the whole image


def main() -> None:
    """Print a line for every pair of sizes and every view, with the fastest of the rounds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    for stored, side in SIZES:
        generator = torch.Generator().manual_seed(0)
        shape = (chosen.batch, 3, stored, stored)
        images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).to(device)
        for kind in ViewKind:
            views, seconds = Views(ViewsConfig(), side, 3, 0), []
            for step in range(chosen.rounds):
                begun = time.perf_counter()
                views.make(images, kind, ViewKey("x", step))[0, 0, 0, 0].item()
                seconds.append(time.perf_counter() - begun)
            noise = Views(NOISE, side, 3, 0).make(images, kind, ViewKey("x", 0))[:, :, 4:-4, 4:-4].std()
            print(
                f"{stored} -> {side:3d} {kind.value:6s} {1e3 * min(seconds):7.1f} ms a batch of {chosen.batch}, noise {noise:.3f}"
            )


if __name__ == "__main__":
    main()
