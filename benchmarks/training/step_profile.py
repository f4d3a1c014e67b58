"""Where the time of a training step goes on this processor, and how close it is to the least time for its arithmetic and memory traffic.

    python benchmarks/training/step_profile.py          # mobile and small, in PP, UDA and condition prediction
    python benchmarks/training/step_profile.py --steps 5

The least time (floor) is the sum over all operations: each takes at least the time of its floating-point operations at the measured rate
of a matrix product, and at least the time to move its inputs and outputs at the measured rate of a copy inside the cache.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from ppcore.console import print_table
from ppcore.platforms import keep_freed_memory
from pptrain.config import load_config
from pptrain.engine.prepare import PreparedRun, prepare_run
from pptrain.engine.process_group import ProcessGroup
from pptrain.engine.state import TrainState, make_state
from pptrain.engine.step import StepRunner, open_batches
from pptrain.evaluation import LossAverages

PARTS = ("views", "forward", "backward", "optimiser", "average", "rest")


class Roofline(TorchDispatchMode):
    """Adds up the least time of every operation at the processor's rates."""

    def __init__(self, flops_per_s: float, bytes_per_s: float) -> None:
        super().__init__()
        self._flops_per_s, self._bytes_per_s = flops_per_s, bytes_per_s
        self.flops, self.seconds = 0, 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor)]
            flops = count_flops(func.overloadpacket, args, kwargs or {}, out)
            moved = sum(t.numel() * t.element_size() for t in tensors)
            self.flops += flops
            self.seconds += max(flops / self._flops_per_s, moved / self._bytes_per_s)
        return out


def count_flops(operation: Any, args: Any, kwargs: Any, out: Any) -> int:
    """Floating-point operations of convolutions and matrix products; 0 for all others, which are bound by memory."""
    if operation is torch.ops.aten.convolution_backward:  # torch's own count ignores groups
        grad, _, weight, *_, wanted = args
        return sum(wanted[:2]) * 2 * grad.shape[0] * grad.shape[2:].numel() * weight.numel()
    count = flop_registry.get(operation)
    return count(*args, **kwargs, out_val=out) if count else 0


def best_seconds(call: Callable[[], Any], rounds: int = 20) -> float:
    """Seconds of the fastest call."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def measure_rates() -> tuple[float, float]:
    """(floating-point operations per second of a matrix product, bytes per second of a copy of 1 MB), on one thread."""
    a = torch.randn(1024, 1024)
    x, y = torch.randn(1 << 18), torch.empty(1 << 18)
    return 2 * 1024**3 / best_seconds(lambda: a @ a), 2 * 4 * (1 << 18) / best_seconds(lambda: y.copy_(x))


def clocked(call: Callable[..., Any], clock: dict[str, float], part: str) -> Callable[..., Any]:
    """`call`, whose time is added to `clock[part]`."""

    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return call(*args, **kwargs)
        finally:
            clock[part] += time.perf_counter() - start

    return timed


def profile(run: PreparedRun, steps: int, rates: tuple[float, float]) -> tuple[dict[str, float], Roofline]:
    """(median milliseconds per step by part, the least time of one step)."""
    group = ProcessGroup("cpu")
    state: TrainState = make_state(run, group.device)
    runner = StepRunner(run, state, group, LossAverages(group.device))
    clock: dict[str, float] = defaultdict(float)
    for owner, name, part in (
        (runner, "_batch", "views"),
        (state.method, "step", "forward"),
        (runner, "_backward", "both"),
        (runner, "_update", "optimiser"),
        (state.ema, "update", "average"),
    ):
        setattr(owner, name, clocked(getattr(owner, name), clock, part))
    found: dict[str, list[float]] = defaultdict(list)
    with open_batches(run, 0) as batches:
        for number in range(steps + 2):
            clock.clear()
            start = time.perf_counter()
            runner.run(batches)
            whole = time.perf_counter() - start
            if number < 2:  # warm-up
                continue
            clock["backward"] = clock.pop("both") - clock["forward"]
            clock["rest"] = whole - sum(clock.values())
            for part in PARTS:
                found[part].append(1e3 * clock[part])
            found["whole"].append(1e3 * whole)
        with Roofline(*rates) as floor:
            runner.run(batches)
    return {part: statistics.median(times) for part, times in found.items()}, floor


def cases(folder: Path) -> dict[str, dict[str, Any]]:
    """Name of a step -> settings beside the architecture. Generates the images of the letters kit first."""
    letters, pseudo = folder / "letters", folder / "pseudo"
    made = [sys.executable, "-m", "ppgen"]
    subprocess.run(
        [*made, "synth", "--source", "letters", "--per-class", "8", "--out", str(letters)], check=True
    )
    similar = ["--source", "letters", "--target", "digits", "--labels-per-class", "2", "--per-image", "20"]
    subprocess.run([*made, "pseudo", *similar, "--out", str(pseudo)], check=True)
    few = {
        "data.target": "digits",
        "data.labels_per_class": 2,
        "views.labeled": "strong",
        "optim.batch_size": 50,
    }
    pssl = few | {"data.unlabeled": [str(pseudo)], "method.options": {"mu": 2.0}}
    return {
        "PP, batch 128": {"data.shards": [str(letters)], "optim.batch_size": 128},
        "UDA, 50 + 2 x 100": pssl | {"method.name": "uda"},
        "condition, 50 + 100": pssl | {"method.name": "condition"},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=30)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    keep_freed_memory()
    rates = measure_rates()
    print(
        f"one thread: {rates[0] / 1e9:.0f} GFLOP/s in a matrix product, {rates[1] / 1e9:.1f} GB/s in a copy of 1 MB"
    )
    lines = [
        ["network", "step", *(f"{part} ms" for part in PARTS), "whole ms", "GFLOP", "floor ms", "floor/whole"]
    ]
    with tempfile.TemporaryDirectory() as folder:
        for name, settings in cases(Path(folder)).items():
            for arch in ("mobile", "small"):
                given = {"loop.amp": "no", "loop.channels_last": True, "loop.device": "cpu"}
                fixed = {"model.arch": arch, "optim.steps": 1000, **given}
                run = prepare_run(load_config(None, {**settings, **fixed}), ProcessGroup("cpu"))
                spent, floor = profile(run, steps, rates)
                parts = [f"{spent[part]:.1f}" for part in PARTS]
                least = 1e3 * floor.seconds
                shown = (
                    f"{spent['whole']:.1f}",
                    f"{floor.flops / 1e9:.2f}",
                    f"{least:.1f}",
                    f"{least / spent['whole']:.2f}",
                )
                lines.append([arch, name, *parts, *shown])
    print_table(lines)


if __name__ == "__main__":
    main()
