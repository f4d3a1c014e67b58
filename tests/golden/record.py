"""What the golden tests compare: run as a program it records `golden.json` anew.

    .venv/bin/python tests/golden/record.py

Generation runs with AVX2 instructions whatever the processor has more, so that one record serves many machines. The bytes are
compared on the kind of processor that the record names. On every processor :func:`differences` compares what may not depend on it with
the directories in `version-2`, and :func:`numbers` and the configurations are compared with the record.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
RECORD = HERE / "golden.json"
MADE = HERE / "version-2"

# The last bits of a convolution follow the instruction set; these hold torch, oneDNN and MKL to AVX2.
ENVIRONMENT = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "AVX2",
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
}
_COMMON = "--source letters --seed 7 --batch-size 8 --samples-per-shard 8 --threads 1 --workers 1 --dtype float32 --device cpu"
RUNS = {
    "synth": f"synth {_COMMON} --classes 0,3,17,41 --per-class 4 --out synth",
    "pseudo": f"pseudo {_COMMON} --target digits --labels-per-class 1 --count 16 --score --out pseudo",
}
TRAINING = {
    "pretrain": "--shards synth --arch mobile --steps 2 --batch-size 4",
    "finetune": "--target digits --labels-per-class 12 --init pretrain --epochs 1 --lr 0.01",
    "uda": "--target digits --unlabeled pseudo --labels-per-class 1 --method uda --steps 2 --set method.options.mu=2",
    "paper": "--target digits --preset paper --labels-per-class 2 --epochs 1 --batch-norm split",
}


def processor(*, model: bool = False) -> str:
    """The kind of processor, or its very model, and the libraries that the record belongs to."""
    import torch

    vendor = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        vendor += " " + next((x.split(":")[1].strip() for x in lines if x.startswith("vendor_id")), "")
        flags = next((x for x in lines if x.startswith("flags")), "").split()
        vendor += " AVX2" if "avx2" in flags else " without AVX2"
        numbers = [x.split(":")[1].strip() for x in lines if x.startswith(("cpu family", "model\t"))]
        vendor += f" family {numbers[0]} model {numbers[1]}" if model and len(numbers) > 1 else ""
    return f"{vendor}, torch {torch.__version__.split('+')[0]}"


def run(commands: list[str], folder: Path) -> None:
    """Commands of the project, one after the other in `folder`, all in one process of their own under :data:`ENVIRONMENT`."""
    program = [sys.executable, __file__, "--run", *commands]
    done = subprocess.run(
        program, cwd=folder, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


def _run_here(commands: list[str]) -> None:
    from typer.testing import CliRunner

    from ppgen.cli import app as ppgen
    from pptrain.cli import app as pptrain

    for command in commands:
        program, *arguments = command.split()
        result = CliRunner().invoke(
            {"ppgen": ppgen, "pptrain": pptrain}[program], arguments, catch_exceptions=False
        )
        assert result.exit_code == 0, f"{command}: {result.output}"


def tar_content(path: Path) -> str:
    """sha256 of the members' names and data, in order."""
    digest = hashlib.sha256()
    with tarfile.open(path) as archive:
        for member in archive:
            handle = archive.extractfile(member)
            assert handle is not None
            digest.update(f"{member.name}\0{member.size}\0".encode() + handle.read())
    return digest.hexdigest()


def parquet_content(path: Path) -> str:
    """sha256 of the rows, column by column, whatever bytes the library writes them in."""
    import pyarrow.parquet as pq

    table = pq.read_table(path, use_threads=False)
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    return hashlib.sha256(json.dumps(columns, sort_keys=True).encode()).hexdigest()


def directory_content(out: Path) -> dict[str, str]:
    """Relative path -> digest of the content of every tar and parquet file."""
    files = sorted(p for p in out.rglob("*") if p.suffix in (".tar", ".parquet"))
    digest = {".tar": tar_content, ".parquet": parquet_content}
    return {str(path.relative_to(out)): digest[path.suffix](path) for path in files}


def make(folder: Path) -> None:
    """Make both directories and train on them."""
    training = [
        f"pptrain run {arguments} --amp no --device cpu --out {name}" for name, arguments in TRAINING.items()
    ]
    run([f"ppgen {arguments}" for arguments in RUNS.values()] + training, folder)


def shards(folder: Path) -> dict[str, dict[str, str]]:
    """What is in the shards of both directories."""
    found = {}
    for name in RUNS:
        plan = json.loads((folder / name / "plan.json").read_text())
        found[name] = directory_content(folder / name) | {"fingerprint": plan["fingerprint"]}
    return found


def configurations(folder: Path) -> dict[str, str]:
    """The resolved configurations of the runs."""
    return {name: (folder / name / "config.yaml").read_text() for name in TRAINING}


def numbers() -> dict[str, list[Any]]:
    """Noise of samples and orders of training, as a list of numbers for each."""
    from ppcore.seeds import PerSampleNoise, derive
    from pptrain.data.order import LaneOrder, Permuted

    noise = PerSampleNoise([7, derive(7, "golden"), 2**63 - 1])
    draws = [noise.randn((2, 4, 4)), noise.randn((5,))]
    lane = LaneOrder([5, 3, 6, 4], 7, "golden", lane=1, lanes=2, window=4).epoch(3)
    return {
        "noise": [round(value, 6) for draw in draws for value in draw.flatten()[::9].tolist()],
        "permuted": Permuted(10, 7, "golden").positions(5, 20).tolist(),
        "streamed": lane.index[lane.order].tolist(),
    }


EXACT = ("key", "index", "shard", "class", "seed", "attempt", "target_id")
ROUNDED = ("entropy", "norm", "confidence")
TOLERANCE = 1e-3  # of a probability; two kinds of processor differ by less than 1e-6


def _close(a: Any, b: Any) -> bool:
    """Whether numbers agree within the tolerance, and are missing (None) in the same places."""
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    return a.shape == b.shape and np.allclose(a, b, rtol=0, atol=TOLERANCE, equal_nan=True)


def differences(made: Path, recorded: Path) -> list[str]:
    """How a directory differs from a recorded one by more than the last bits of a processor.

    Plan, seeds, order and labels must be equal, soft labels equal within a tolerance, images within one grey level.
    """
    import pyarrow.parquet as pq

    from ppcore.images import decode
    from ppcore.shards import ShardSet

    plans = [json.loads((folder / "plan.json").read_text()) for folder in (made, recorded)]
    for plan in plans:
        # Both follow the last bits of the soft labels.
        plan["fingerprint"] = (plan["condition"] or {})["sha256"] = None
    found = [name for name in plans[0].keys() | plans[1].keys() if plans[0].get(name) != plans[1].get(name)]
    for name in ("manifest.parquet", "conditions.parquet"):
        if (recorded / name).exists():
            ours, theirs = (pq.read_table(folder / name, use_threads=False) for folder in (made, recorded))
            for column in theirs.column_names:
                a, b = (table.column(column).to_pylist() for table in (ours, theirs))
                if column in EXACT:
                    same = a == b
                elif column in (*ROUNDED, "soft"):
                    same = _close(a, b)
                else:
                    continue
                found += [] if same else [f"{name}: {column}"]
    opened = [ShardSet.open(str(folder)) for folder in (made, recorded)]
    for sample in range(opened[1].samples):
        a, b = (directory.fetch(sample) for directory in opened)
        if (a.key, a.label, a.extension) != (b.key, b.label, b.extension):
            found.append(f"label of {b.key}")
        if not _close(a.soft, b.soft):
            found.append(f"soft label of {b.key}")
        levels = np.abs(decode(a.image).astype(int) - decode(b.image).astype(int)).max()
        found += [] if levels <= 1 else [f"image of {b.key}: {levels} grey levels"]
    return found


def main() -> None:
    """Record; or, with --run, do the commands that follow in this process."""
    if sys.argv[1:2] == ["--run"]:
        _run_here(sys.argv[2:])
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder)
        record = {
            "processor": processor(),
            "shards": shards(folder),
            "configurations": configurations(folder),
        }
    record["numbers"] = numbers()
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
