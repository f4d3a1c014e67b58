"""A consistency model in two steps, noise drawn on the CPU and made on the device (run with PYTHONPATH=benchmarks).

The models of few steps are the ones that wait for their noise. Random weights in the genuine shape; both ways in turns, in one process, and
the best round of each counts. The ceiling is the network's arithmetic over the rate of matrix products measured here.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import generator_models as models
import torch
from generators import Setting, matrix_rate, seconds

from ppgen.generators import load_generator

STEPS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description="Two-step consistency model by source of noise.")
    parser.add_argument("--size", choices=("small", "full"), default="small")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--compile", default="none", choices=("none", "default", "graphs"))
    args = parser.parse_args()
    dtype = "float32" if args.device == "cpu" else "bfloat16"
    with tempfile.TemporaryDirectory() as folder:
        models.save_consistency(Path(folder), models.config("consistency", args.size))
        generators = {
            noise: load_generator(
                folder,
                device=args.device,
                dtype=dtype,
                sampling={"steps": STEPS, "noise": noise, "compile": args.compile},
            )
            for noise in ("cpu", "philox")
        }
    condition = torch.eye(1000)[[(7 * i) % 1000 for i in range(args.batch)]]
    seeds = torch.arange(args.batch)
    if args.device != "cpu":
        condition, seeds = condition.pin_memory(), seeds.pin_memory()

    def run(generator: Any) -> Any:
        return lambda: generator.sample(condition, seeds).cpu()

    best = dict.fromkeys(generators, float("inf"))
    for round_ in range(args.rounds + 1):
        for noise, generator in generators.items():
            taken = seconds(run(generator), args.device)
            if round_:  # the first warms up
                best[noise] = min(best[noise], taken)
    rates = {noise: args.batch / taken for noise, taken in best.items()}
    setting = Setting(args.size, args.device, dtype, args.batch, torch.get_num_threads(), "")
    ceiling = matrix_rate(setting) / (STEPS * models.arithmetic("consistency", args.size)[0])
    print(
        f"consistency, {STEPS} steps, {args.size}, batch {args.batch}, {args.device} {dtype}, compile={args.compile}: "
        f"noise=cpu {rates['cpu']:.1f} images/s, noise=philox {rates['philox']:.1f} images/s "
        f"({rates['philox'] / rates['cpu']:.2f} times), ceiling {ceiling:.1f}"
    )


if __name__ == "__main__":
    main()
