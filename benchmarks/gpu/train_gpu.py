"""Images a second of supervised pre-training through pptrain's own step: `PYTHONPATH=benchmarks python
benchmarks/gpu/train_gpu.py`.

Random images of an image folder stand for the task and are replaced by random uint8 images on the device, so that neither disk nor
decoding is measured: views, network, gradients, optimiser and averaged weights are. The ceiling is the arithmetic of the step, three
forward passes, over the rate of matrix products measured here.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import torch
from gpu.random_tasks import random_task
from torch.utils.flop_counter import FlopCounterMode

from pptrain.engine.choice import settle
from pptrain.engine.process_group import ProcessGroup
from pptrain.engine.state import make_state
from pptrain.engine.step import StepRunner, open_batches
from pptrain.engine.task import Task
from pptrain.evaluation import LossAverages


@dataclass(frozen=True)
class Rate:
    """What was measured: images a second, GFLOP an image of a whole step, peak GB of the GPU (0 on a CPU)."""

    images_per_s: float
    gflop: float
    peak_gb: float


def measure(
    arch: str, *, side: int, batch: int, images: int, steps: int, device: str, compiled: bool
) -> Rate:
    """Seconds of `steps` steps after a quarter as many that warm up."""
    group = ProcessGroup(device)
    settings = {"loop.compile": compiled}
    task = settle(random_task(arch, side, batch, images, group, settings=settings), group)
    forward = count_flops(task)
    state = make_state(task, group.device)
    runner = StepRunner(task, state, group, LossAverages(group.device))
    with open_batches(task, 0) as batches:
        for _ in range(max(2, steps // 4)):
            runner.run(batches)
        wait(group.device)
        start = time.perf_counter()
        for _ in range(steps):
            runner.run(batches)
        wait(group.device)
        seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated() / 1e9 if group.device.type == "cuda" else 0.0
    return Rate(steps * batch / seconds, 3 * forward / 1e9, peak)


def count_flops(task: Task) -> float:
    """FLOP (2 a multiply-add) of one image's forward pass."""
    spec = task.spec
    was_training = task.net.training
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        task.net.eval()(torch.zeros(1, spec.channels, spec.resolution, spec.resolution))
    task.net.train(was_training)
    return float(counter.get_total_flops())


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def matrix_rate(device: torch.device) -> float:
    """FLOP a second of large matrix products, bfloat16 on a GPU."""
    size, dtype = (8192, torch.bfloat16) if device.type == "cuda" else (1024, torch.float32)
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        wait(device)
        start = time.perf_counter()
        a @ b
        wait(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def main() -> None:
    parser = argparse.ArgumentParser(description="Images a second through pptrain's own step.")
    parser.add_argument("--arch", default="resnet50")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--images", type=int, default=4096, help="resident random images")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    device = torch.device(args.device)
    rate = matrix_rate(device)
    found = measure(
        args.arch,
        side=args.side,
        batch=args.batch,
        images=args.images,
        steps=args.steps,
        device=args.device,
        compiled=args.compile,
    )
    ceiling = rate / (found.gflop * 1e9)
    where = (
        torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    )
    print(
        f"{args.arch} at {args.side} pixels, batch {args.batch}, {where}{', compiled' if args.compile else ''}: "
        f"{found.images_per_s:.1f} images/s, {found.gflop:.1f} GFLOP an image, ceiling {ceiling:.0f} images/s, "
        f"{found.images_per_s / ceiling:.0%} of it, peak {found.peak_gb:.1f} GB"
    )


if __name__ == "__main__":
    main()
