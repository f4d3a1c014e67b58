"""Measures the quick ratios in under ten minutes, writes them as JSON and compares them with the last committed file.

    make bench                                     # the same as python benchmarks/quick.py
    python benchmarks/quick.py --rounds 1 --out /tmp/now.json

Each figure is a ratio of two things measured in one run. Each round runs all scripts, so that other load on the machine affects all of
them. A figure has changed if all new values lie on one side of all old values and the medians differ by at least 3 %.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch

from ppcore.console import print_table
from ppcore.platforms import this_platform

HERE = Path(__file__).parent
FIGURES = HERE / "figures"
LEAST_CHANGE = 0.03


@dataclass(frozen=True)
class Script:
    """A benchmark whose ratios are read from what it prints.

    Attributes:
        figure: name of its ratios.
        pattern: matches a ratio; the last group is its value, the groups before are added to its name.
    """

    path: str
    arguments: list[str]
    figure: str
    pattern: str

    def figures_in(self, printed: str) -> dict[str, float]:
        """Name -> value of every printed ratio."""
        found = {}
        for match in re.finditer(self.pattern, printed, re.MULTILINE):
            *names, value = match.groups()
            found[": ".join([self.figure, *names])] = float(value)
        return found


SCRIPTS = [
    Script(
        "synth_efficiency.py",
        ["--source", "letters", "--images", "1500", "--rounds", "1"],
        "images/s of ppgen synth / bare sampler",
        r"ratio ([\d.]+)",
    ),
    Script(
        "stream.py",
        ["--rounds", "1", "--seconds", "3"],
        "images/s of pptrain's stream / best peer's that is installed",
        r"^(\d+-pixel)[^\n]*\n(?:  (?!ours )[^\n]*\n)*  ours [^\n]*?([\d.]+)x the best peer",
    ),
    Script(
        "training/step_profile.py",
        ["--steps", "10"],
        "floor of a training step / its time",
        r"^((?:mobile|small) +\S.*?\d)  .* ([\d.]+)$",
    ),
]


def measure(rounds: int) -> dict[str, list[float]]:
    """Name -> its values, one for each round."""
    values: dict[str, list[float]] = defaultdict(list)
    for number in range(rounds):
        for script in SCRIPTS:
            start = time.monotonic()
            command = [sys.executable, str(HERE / script.path), *script.arguments]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            found = script.figures_in(done.stdout)
            if done.returncode or not found:
                raise SystemExit(
                    f"{script.path} ended with {done.returncode}:\n{done.stdout}{done.stderr[-3000:]}"
                )
            for name, value in found.items():
                values[" ".join(name.split())].append(value)
            spent = time.monotonic() - start
            print(f"round {number + 1} of {rounds}: {script.path}, {spent:.0f} s", file=sys.stderr)
    return dict(values)


def last_committed(machine: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """(name, content) of the newest committed file of figures, if possible from the same kind of machine; None without one."""
    listed = ["git", "ls-files", str(FIGURES)]
    names = subprocess.run(listed, cwd=HERE, capture_output=True, text=True, check=True).stdout.split()
    files = {name: json.loads((HERE / name).read_text()) for name in names if name.endswith(".json")}
    same = {name: content for name, content in files.items() if content["machine"] == machine}
    newest = max(same or files, key=lambda name: files[name]["date"], default=None)
    return None if newest is None else (newest, files[newest])


def verdict(now: list[float], then: list[float] | None) -> str:
    """`new`, `as before`, or by how many percent the figure has changed."""
    if not then:
        return "new"
    change = statistics.median(now) / statistics.median(then) - 1
    apart = min(now) > max(then) or max(now) < min(then)
    return f"{change:+.0%}" if apart and abs(change) >= LEAST_CHANGE else "as before"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--out", type=Path, help="where the JSON goes [default: benchmarks/figures/DATE.json]"
    )
    options = parser.parse_args()
    machine = {**asdict(this_platform(torch.device("cpu"))), "cores": len(os.sched_getaffinity(0))}
    before = last_committed(machine)
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True, check=True
    )
    content = {
        "date": date.today().isoformat(),
        "commit": commit.stdout.strip(),
        "machine": machine,
        "figures": measure(options.rounds),
    }
    out = options.out or FIGURES / f"{content['date']}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(content, indent=1) + "\n")
    then: dict[str, list[float]] = before[1]["figures"] if before else {}
    lines = [["ratio", "median", "of", "then", "verdict"]]
    for name, values in content["figures"].items():
        old = then.get(name)
        shown = f"{statistics.median(old):.2f}" if old else ""
        lines.append(
            [name, f"{statistics.median(values):.2f}", f"{len(values)}", shown, verdict(values, old)]
        )
    print_table(lines)
    if before is not None:
        other = "" if before[1]["machine"] == machine else ", of another machine or other libraries"
        print(f"then: {before[0]}, {before[1]['date']}{other}")
    print(f"written: {out}")


if __name__ == "__main__":
    main()
