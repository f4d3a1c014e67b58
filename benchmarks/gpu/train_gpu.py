"""How fast is the trainer's step beside a loop of timm's parts? Run with PYTHONPATH=benchmarks; on a GPU in under eight minutes.

ResNet-50 at 224 pixels and `mobile` at 32, pseudo pre-training (PP) and P-SSL with UDA: two unlabelled images a labelled one, each in a
weak and a strong view, are five images through the network for one. Random uint8 images lie on the device, so that neither disk nor
decoding is measured.

Ours is pptrain's own step: views, network, losses, gradients, optimiser, averaged weights; once plain (bf16, channels last) and once with
the program's defaults, which use CUDA graphs for small steps. The peer is what timm's train.py does with the
same batches: its model, its AdamW (fused), its ModelEmaV3, its normalisation of uint8 on the device, bf16, channels last; it makes no
views, so that its images come for nothing. Rounds in turns, the fastest counts. The ceiling is the arithmetic of the step, three forward
passes, over the rate of matrix products measured here.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from training.random_tasks import CLASSES, precision, random_run

from ppcore.classifiers import build
from pptrain.engine.prepare import PreparedRun
from pptrain.engine.process_group import ProcessGroup
from pptrain.engine.state import make_state
from pptrain.engine.step import StepRunner, open_batches
from pptrain.evaluation import LossAverages
from pptrain.methods import losses

IMAGES_THROUGH = {"PP": 1, "P-SSL": 5}  # the network, of each labelled image


@dataclass(frozen=True)
class Case:
    arch: str
    side: int
    batch: int
    kind: str


def ours(run: PreparedRun, group: ProcessGroup, open_until: ExitStack) -> Callable[[int], None]:
    """Takes so many steps."""
    runner = StepRunner(run, make_state(run, group.device), group, LossAverages(group.device))
    batches = open_until.enter_context(open_batches(run, 0))

    def steps(count: int) -> None:
        for _ in range(count):
            runner.run(batches)

    return steps


def peer(case: Case, images: Tensor, labels: Tensor, device: torch.device) -> Callable[[int], None]:
    """The same task as timm's train.py would have it."""
    known = case.arch in timm.list_models()
    model = (
        timm.create_model(case.arch, num_classes=CLASSES) if known else build(case.arch, CLASSES, 3)
    )  # ours is not timm's
    model = model.to(device, memory_format=torch.channels_last).train()
    optimizer = create_optimizer_v2(
        model, opt="adamw", lr=2e-3, weight_decay=0.05, fused=device.type == "cuda"
    )
    ema = ModelEmaV3(model, decay=0.99)
    mean, std = (
        torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    )
    images, labels = images.to(device), labels.to(device)
    amp = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
    number = 0

    def seen(count: int, first: int) -> Tensor:
        index = torch.arange(first, first + count, device=device) % len(images)
        x = images[index][..., : case.side, : case.side].float().div_(255.0).sub_(mean).div_(std)
        return x.contiguous(memory_format=torch.channels_last)

    def loss() -> Tensor:
        y = labels[torch.arange(number, number + case.batch, device=device) % len(labels)]
        if case.kind == "PP":
            return F.cross_entropy(model(seen(case.batch, number)), y)
        weak, strong = seen(2 * case.batch, number), seen(2 * case.batch, number)
        z = model(torch.cat([seen(case.batch, number), weak, strong]))
        z_x, z_w, z_s = z.split([case.batch, 2 * case.batch, 2 * case.batch])
        unlabeled, _ = losses.uda(z_s, z_w, threshold=0.8, temperature=0.4)
        return F.cross_entropy(z_x.float(), y) + unlabeled

    def steps(count: int) -> None:
        nonlocal number
        for _ in range(count):
            with amp:
                value = loss()
            value.backward()
            optimizer.step()
            optimizer.zero_grad()
            ema.update(model)
            number += case.batch

    return steps


def forward_flop(net: nn.Module, side: int) -> float:
    """FLOP (2 a multiply-add) of one image's forward pass."""
    device = next(net.parameters()).device
    was_training = net.training
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net.eval()(torch.zeros(1, 3, side, side, device=device))
    net.train(was_training)
    return float(counter.get_total_flops())


def matrix_rate(device: torch.device) -> float:
    """FLOP a second of large matrix products, bfloat16 on a GPU."""
    size, dtype = (8192, torch.bfloat16) if device.type == "cuda" else (1024, torch.float32)
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = min(seconds(lambda count: [a @ b for _ in range(count)], 4, device) for _ in range(10))
    return 2 * size**3 / best


def seconds(steps: Callable[[int], object], count: int, device: torch.device) -> float:
    """Of one step."""
    begun = time.perf_counter()
    steps(count)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - begun) / count


def compare(case: Case, args: argparse.Namespace, rate: float) -> str:
    """A row of the table."""
    group = ProcessGroup(args.device)
    images = args.images or 16 * case.batch

    def prepared(settings: dict[str, Any]) -> PreparedRun:
        return random_run(case.arch, case.side, case.batch, images, group, kind=case.kind, settings=settings)

    plain = prepared({"loop.compile": args.compile, "loop.graphs": False})
    chosen = prepared({"loop.compile": args.compile})
    flop = forward_flop(plain.net, case.side)
    stored = plain.labeled.images, plain.labeled.labels  # type: ignore[attr-defined]
    with ExitStack() as open_until:
        loops = {
            "plain": ours(plain, group, open_until),
            "chosen": ours(chosen, group, open_until),
            "timm": peer(case, *stored, group.device),
        }
        best = dict.fromkeys(loops, float("inf"))
        for steps in loops.values():
            seconds(steps, max(2, args.steps // 4), group.device)
        for _ in range(args.rounds):
            for name, steps in loops.items():
                best[name] = min(best[name], seconds(steps, args.steps, group.device))
    through = IMAGES_THROUGH[case.kind]
    share = 3 * flop * through * case.batch / best["chosen"] / rate
    rates = {name: case.batch * through / s for name, s in best.items()}
    return (
        f"| `{case.arch}` | {case.side} | {case.kind} | {case.batch} | {rates['plain']:.0f} | {rates['chosen']:.0f} | "
        f"{precision(chosen)} | {rates['timm']:.0f} | {rates['chosen'] / rates['timm']:.2f} | {share:.0%} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="pptrain's step beside a loop of timm's parts.")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=20, help="of a round")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--images", type=int, default=0, help="resident random images (default: 16 batches)")
    parser.add_argument("--only", default="", help="networks with this in their names")
    parser.add_argument("--compile", action="store_true", help="ours compiled; takes minutes more")
    parser.add_argument("--smoke", action="store_true", help="tiny batches: whether it works")
    args = parser.parse_args()
    cases = [
        Case("resnet50", 224, 256, "PP"),
        Case("resnet50", 224, 48, "P-SSL"),
        Case("mobile", 32, 1024, "PP"),
        Case("mobile", 32, 256, "P-SSL"),
        Case("mobile", 32, 128, "PP"),
        Case("mobile", 32, 50, "P-SSL"),
    ]
    if args.smoke:
        args.steps, args.rounds = 1, 1
        cases = [Case(c.arch, 32, 4, c.kind) for c in cases]
    device = torch.device(args.device)
    rate = matrix_rate(device)
    where = (
        torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    )
    print(f"{where}, torch {torch.__version__}, {rate / 1e12:.2f} TFLOP/s of matrix products\n")
    print(
        "| network | pixels | | batch | ours, images/s | defaults, images/s | which are | timm's parts | ratio | of the ceiling |\n"
        "|---|---|---|---|---|---|---|---|---|---|"
    )
    for case in cases:
        if args.only in case.arch:
            print(compare(case, args, rate), flush=True)


if __name__ == "__main__":
    main()
