"""How much faster is a training step than at an older commit? `python benchmarks/training/since.py COMMIT`.

Runs `pptrain run` on digits with the older sources and with these, in turns. The rate of a run is that of its steps after the first third
(metrics.csv), when everything is loaded and compiled. `auto` is the default precision, and `float32` is `--amp no`.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
PACKAGES = ("core", "generate", "train", "pipelines")


@dataclass(frozen=True)
class Case:
    arch: str
    kind: str
    batch: int

    @property
    def settings(self) -> list[str]:
        if self.kind == "PP":
            return ["--method", "supervised"]
        return ["--unlabeled", "target:digits", "--method", "uda", "--set", "method.options.mu=2"]


CASES = [
    Case(arch, kind, batch) for arch in ("mobile", "small") for kind, batch in (("PP", 128), ("UDA", 50))
]


def checked_out(commit: str, folder: Path) -> Path:
    """Unpack the sources of `commit` into `folder`."""
    archive = subprocess.run(
        ["git", "archive", commit, *PACKAGES], cwd=ROOT, check=True, capture_output=True
    ).stdout
    with tarfile.open(fileobj=BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def rate(sources: Path, case: Case, amp: str, steps: int, folder: Path) -> float:
    """Steps per second."""
    out = Path(tempfile.mkdtemp(dir=folder))
    command = [sys.executable, "-m", "pptrain", "run", "--target", "digits", "--labels-per-class", "20"]
    command += ["--arch", case.arch, "--batch-size", str(case.batch), "--steps", str(steps), "--amp", amp]
    command += [
        "--set",
        "data.val_fraction=0",
        "--set",
        "loop.tensorboard=false",
        "--set",
        "views.labeled=strong",
    ]
    path = os.pathsep.join(str(sources / package) for package in PACKAGES)
    environment = os.environ | {"PYTHONPATH": path, "XDG_CACHE_HOME": str(folder / "cache")}
    subprocess.run(
        [*command, *case.settings, "--out", str(out / "run")],
        cwd=out,  # a directory without runs/
        env=environment,
        check=True,
        capture_output=True,
    )
    with (out / "run" / "metrics.csv").open() as file:
        rows = [(int(row["step"]), float(row["seconds"])) for row in csv.DictReader(file)]
    first = next(row for row in rows if row[0] >= steps / 3)
    return (rows[-1][0] - first[0]) / (rows[-1][1] - first[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Training steps of these sources beside those of an older commit."
    )
    parser.add_argument("commit")
    parser.add_argument("--steps", type=int, default=180, help="steps of a run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="only networks whose names contain this")
    args = parser.parse_args()
    print(
        "| network | step | batch | precision | then, steps/s | now | now / then, median of rounds |\n|---|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "then").mkdir()
        trees = {"then": checked_out(args.commit, folder / "then"), "now": ROOT}
        for case in (case for case in CASES if args.only in case.arch):
            for amp in ("auto", "no"):
                rates: dict[str, list[float]] = {when: [] for when in trees}
                for _ in range(args.rounds):
                    for when, sources in trees.items():
                        rates[when].append(rate(sources, case, amp, args.steps, folder))
                ratio = median(now / then for then, now in zip(rates["then"], rates["now"], strict=True))
                then, now = (median(rates[when]) for when in trees)
                precision = "auto" if amp == "auto" else "float32"
                print(
                    f"| `{case.arch}` | {case.kind} | {case.batch} | {precision} | {then:.2f} | {now:.2f} | {ratio:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
