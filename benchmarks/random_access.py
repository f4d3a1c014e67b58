"""Microseconds a sample of `open_shards(...)[i]` in shuffled order over 1,300 shards, with and without a weight.

    PYTHONPATH=benchmarks python benchmarks/random_access.py         a minute

The first row is a program that has just opened the directory; it also reads the tables of the shards. The last row has read them.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pptransfer import open_shards

SHARDS, EACH, ACCESSES = 1_300, 200, 4_000


def certain(row: Mapping[str, Any]) -> float:
    return float(1 / (1 + row["entropy"]))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder, "shards"))
        command = f"synth --source procedural:build --per-class {SHARDS * EACH // 1000} --samples-per-shard {EACH} --workers 1"
        program = "import sys; from ppgen.cli import main; sys.exit(main())"
        subprocess.run(
            [sys.executable, "-c", program, *command.split(), "--device", "cpu", "--out", out],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        for path in Path(out).rglob("*.*"):
            path.read_bytes()  # so that the first pass does not wait for the disk
        open_shards(out, weight=certain)[0]  # imports
        plain, weighted = open_shards(out), open_shards(out, weight=certain)
        order = np.random.default_rng(0).permutation(len(plain))[:ACCESSES].tolist()
        print(
            f"{len(plain)} samples in {SHARDS} shards, {ACCESSES} of them in shuffled order, microseconds a sample"
        )
        for name in ("first pass", "again"):
            spent = []
            for shards in (plain, weighted):
                start = time.perf_counter()
                for position in order:
                    shards[position]
                spent.append((time.perf_counter() - start) / ACCESSES * 1e6)
            print(
                f"{name:10}  no weight {spent[0]:7.1f}  weight {spent[1]:7.1f}  difference {spent[1] - spent[0]:7.1f}"
            )


if __name__ == "__main__":
    main()
