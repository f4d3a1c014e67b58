"""Measures what `--reproducible` costs: `PYTHONPATH=benchmarks python benchmarks/gpu/reproducible.py --size small|full`.

Two processes run the same generator in turns; one of them allows only deterministic algorithms. The best round of each counts. `small` is
the embedded kit, `full` the ImageNet-64 consistency UNet with random weights.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import generator_models as models
import torch
from generators import seconds

from ppgen.generators import load_generator
from ppgen.sources import make_deterministic


@cache
def generator(source: str, device: str, reproducible: bool) -> Any:
    if reproducible:
        make_deterministic()
    torch.set_num_threads(1)
    return load_generator(source, device=device, sampling={"compile": "none"})


def taken(source: str, device: str, reproducible: bool, batch: int) -> float:
    """Seconds of a batch."""
    made = generator(source, device, reproducible)
    condition = torch.eye(made.num_classes)[[i % made.num_classes for i in range(batch)]]
    return seconds(lambda: made.sample(condition, torch.arange(batch)).cpu(), device)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description="What --reproducible costs.")
    parser.add_argument("--size", choices=("small", "full"), default="small")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=8)
    args = parser.parse_args()
    batch = args.batch or (100 if args.size == "small" else 128)
    with tempfile.TemporaryDirectory() as folder:
        source = "letters"
        if args.size == "full":
            models.save_consistency(Path(folder), models.config("consistency", "full"))
            source = folder
        spawn = multiprocessing.get_context("spawn")
        pools = {flag: ProcessPoolExecutor(1, mp_context=spawn) for flag in (False, True)}
        best = dict.fromkeys(pools, float("inf"))
        for round_ in range(args.rounds + 1):
            for flag, pool in pools.items():
                found = pool.submit(taken, source, args.device, flag, batch).result()
                if round_:  # the first round warms up
                    best[flag] = min(best[flag], found)
        for pool in pools.values():
            pool.shutdown()
    print(
        f"{Path(source).name if args.size == 'small' else 'consistency'} on {args.device}, batch {batch}: "
        f"{batch / best[False]:.1f} images/s, reproducible {batch / best[True]:.1f} images/s "
        f"({best[True] / best[False]:.3f} times the time)"
    )


if __name__ == "__main__":
    main()
