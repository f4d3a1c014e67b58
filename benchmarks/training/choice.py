"""Does the rule for precision choose the faster one? `python benchmarks/training/choice.py`.

Runs of every network with `--amp no` and `--amp bf16` take their steps in turns, and so does `--amp auto` if it is neither of the two (with
CUDA graphs). A rate is that of the fastest of some rounds of steps, by the time of the processor where one thread computes, so that other
programs do not count. Bar: auto reaches 95 % of the better rate.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass
from typing import Any

import torch
from random_tasks import precision, random_run

from ppcore.platforms import keep_freed_memory
from pptrain.engine.process_group import ProcessGroup
from pptrain.engine.state import make_state
from pptrain.engine.step import StepRunner
from pptrain.evaluation import LossAverages
from pptrain.models import SMALL_SIDE

BAR = 0.95
LEAST_S = 0.3  # of the steps of a round


@dataclass(frozen=True)
class Case:
    arch: str
    side: int
    batch: int
    kind: str = "PP"


CASES = [
    Case("mobile", 32, 128),
    Case("mobile", 32, 50, "P-SSL"),
    Case("small", 32, 128),
    Case("small", 32, 50, "P-SSL"),
    Case("resnet18", 32, 64),
    Case("mobilenet_v3_small", 224, 32),
    Case("timm/vit_tiny_patch16_224", 224, 16),
]


class Run:
    """A run whose steps are timed."""

    def __init__(self, case: Case, amp: str, group: ProcessGroup) -> None:
        settings: dict[str, Any] = {"loop.amp": amp}
        settings |= {} if amp == "auto" else {"loop.graphs": False}
        run = random_run(
            case.arch, case.side, case.batch, 4 * case.batch, group, kind=case.kind, settings=settings
        )
        self.precision = precision(run)
        self.runner = StepRunner(run, make_state(run, group.device), group, LossAverages(group.device))
        self.labeled = run.labeled.batches(0)
        self.unlabeled = run.unlabeled.batches(0) if run.unlabeled else None
        self.best = float("inf")

    def steps(self, count: int) -> float:
        """Seconds per step."""
        alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
        clock = time.process_time if alone else time.perf_counter
        begun = clock()
        for _ in range(count):
            unlabeled = next(self.unlabeled) if self.unlabeled else None
            self.runner.run(iter([(next(self.labeled), unlabeled)]))
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return (clock() - begun) / count


def compare(case: Case, rounds: int) -> dict[str, Run]:
    """The runs of a case, timed in turns; `auto` may be one of the other two."""
    torch.set_num_threads(1 if case.side <= SMALL_SIDE else os.cpu_count() or 1)  # as pptrain run does
    group = ProcessGroup()
    keep_freed_memory()  # as pptrain run does
    runs = {amp: Run(case, amp, group) for amp in ("no", "bf16", "auto")}
    same = [run for run in (runs["no"], runs["bf16"]) if run.precision == runs["auto"].precision]
    runs["auto"] = same[0] if same else runs["auto"]
    runs["no"].steps(1)
    count = max(1, round(LEAST_S / runs["no"].steps(1)))
    for number in range(rounds + 1):
        for run in {id(run): run for run in runs.values()}.values():
            seconds = run.steps(count)
            if number:
                run.best = min(run.best, seconds)
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares the rule for precision with float32 and bf16.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="only networks whose names contain this")
    parser.add_argument(
        "--smoke", action="store_true", help="tiny batches, one round: only checks that it runs"
    )
    args = parser.parse_args()
    cpu = torch.cpu.get_capabilities().get("cpu_name")
    print(
        f"{torch.cuda.get_device_name() if torch.cuda.is_available() else cpu}, torch {torch.__version__}, "
        f"{torch.backends.cpu.get_cpu_capability()}\n"
    )
    print("| network | pixels | batch | | float32, steps/s | bf16 | auto | auto is | auto / better |")
    print("|---|---|---|---|---|---|---|---|---|")
    ratios = []
    for case in CASES:
        if args.only not in case.arch:
            continue
        if args.smoke:
            case = Case(case.arch, case.side, 4, case.kind)
        runs = compare(case, 1 if args.smoke else args.rounds)
        better = min(runs["no"].best, runs["bf16"].best)
        auto = runs["auto"]
        ratios.append(better / auto.best)
        rates = " | ".join(f"{1 / run.best:.2f}" for run in runs.values())
        print(
            f"| `{case.arch}` | {case.side} | {case.batch} | {case.kind} | {rates} | {auto.precision} | {ratios[-1]:.2f} |",
            flush=True,
        )
    missed = sum(ratio < BAR for ratio in ratios)
    print(f"\nauto / better: smallest {min(ratios):.2f}, bar {BAR}: {'met' if not missed else 'MISSED'}")
    sys.exit(bool(missed) and not args.smoke)


if __name__ == "__main__":
    main()
