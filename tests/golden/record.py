"""What the golden tests compare: run as a program it records `golden.json` anew.

    .venv/bin/python tests/golden/record.py

Generation runs with AVX2 instructions whatever the processor has more, so that one record serves many machines; the record names
the kind of processor, and others skip.
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

HERE = Path(__file__).parent
RECORD = HERE / "golden.json"

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


def contents(folder: Path) -> dict[str, Any]:
    """Make both directories and train on them; what is in the shards, and the resolved configurations."""
    training = [
        f"pptrain run {arguments} --amp no --device cpu --out {name}" for name, arguments in TRAINING.items()
    ]
    run([f"ppgen {arguments}" for arguments in RUNS.values()] + training, folder)
    shards: dict[str, Any] = {}
    for name in RUNS:
        plan = json.loads((folder / name / "plan.json").read_text())
        shards[name] = directory_content(folder / name) | {"fingerprint": plan["fingerprint"]}
    return {
        "shards": shards,
        "configurations": {name: (folder / name / "config.yaml").read_text() for name in TRAINING},
    }


def main() -> None:
    """Record; or, with --run, do the commands that follow in this process."""
    if sys.argv[1:2] == ["--run"]:
        _run_here(sys.argv[2:])
        return
    with tempfile.TemporaryDirectory() as name:
        record = {"processor": processor(), **contents(Path(name))}
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
