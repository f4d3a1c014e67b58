"""Every option that takes a place takes all ways in which people write one, and what is written is where the option says."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

import ppflow.cli
import ppgen.cli
import pptrain.cli

BYTE = os.fsdecode(b"caf\xe9")
LONG = "n" * 244  # and a suffix
WAYS: dict[str, Callable[[Path, str], tuple[str, str]]] = {  # (a folder, a name) -> (typed, below the folder)
    "home": lambda _, name: (f"~/{name}", f"home/{name}"),
    "url": lambda root, name: (f"file://{quote(str(root))}/a%20b/{name}", f"a b/{name}"),
    "relative with spaces and bytes": lambda _, name: (f"../ a  b /./{BYTE}-{name}", f" a  b /{BYTE}-{name}"),
    "long": lambda root, name: (f"{root}/{LONG[len(name) :]}{name}", f"{LONG[len(name) :]}{name}"),
}
MAINS = {"ppgen": ppgen.cli.main, "pptrain": pptrain.cli.main, "ppflow": ppflow.cli.main}
RECIPE = """title: T
seeds: [0]
params: {target: x}
train: {one: {data.target: $target, optim.steps: 2, loop.device: cpu}}
rows: {a: one}
"""


@dataclass
class Typed:
    """Name of a place -> (what the user types, the path that is meant)."""

    root: Path
    way: str
    paths: list[Path] = field(default_factory=list)

    def __call__(self, name: str) -> tuple[str, Path]:
        text, below = WAYS[self.way](self.root, name)
        self.paths.append(self.root / below)
        self.paths[-1].parent.mkdir(parents=True, exist_ok=True)
        return text, self.paths[-1]


@pytest.fixture(params=WAYS)
def typed(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Typed:
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    return Typed(tmp_path, request.param)


def run(monkeypatch: pytest.MonkeyPatch, program: str, *words: str) -> None:
    """Run a program in this process; it must succeed."""
    monkeypatch.setattr(sys, "argv", [program, *words])
    with pytest.raises(SystemExit) as stop:
        MAINS[program]()
    assert stop.value.code in (0, None), words


def write_images(folder: Path) -> None:
    """A class folder named in UTF-8 and one that is not, of six grey images each."""
    for shade, name in ((20, "é"), (200, BYTE)):
        (folder / name).mkdir(parents=True)
        for number in range(6):
            pixels = np.full((8, 8), shade + number, np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{BYTE}{number}.png")


@pytest.mark.slow
def test_all_programs(typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, images_path = typed("images")
    write_images(images_path)
    synth, synth_path = typed("synth")
    pseudo, pseudo_path = typed("pseudo")
    classes, classes_path = typed("classes.txt")
    classes_path.write_text("# é\n0\n1\n", "utf-8")
    small = ["--device", "cpu", "--batch-size", "4"]
    run(monkeypatch, "ppgen", "targets", images)
    run(
        monkeypatch,
        "ppgen",
        "synth",
        "--source=letters",
        f"--classes=@{classes}",
        "--per-class=4",
        f"--out={synth}",
        *small,
    )
    made = sorted(str(p.relative_to(synth_path)) for p in synth_path.rglob("*"))
    assert {"plan.json", "manifest.parquet", "index.json", "README.md", "shards/000000.tar"} <= set(made)
    run(
        monkeypatch,
        "ppgen",
        "pseudo",
        "--source=letters",
        f"--target=mine={images}",
        "--count=4",
        f"--out={pseudo}",
        *small,
    )
    for words in (["verify"], ["status"], ["report", f"--reference={images}", "--device=cpu"]):
        run(monkeypatch, "ppgen", *words, pseudo)
    bank, bank_path = typed("bank")
    run(monkeypatch, "ppgen", "synth", f"--source=bank:{images}", "--per-class=2", f"--out={bank}", *small)
    pulled, pulled_path = typed("pulled")
    run(monkeypatch, "ppgen", "pull", synth, f"--out={pulled}")
    gathered, gathered_path = typed("gathered")
    run(monkeypatch, "ppgen", "gather", pseudo, f"--out={gathered}")

    pretrained, pretrained_path = typed("pretrained")
    short = ["--steps=2", "--batch-size=4", "--device=cpu"]
    run(monkeypatch, "pptrain", "run", f"--shards={synth}", f"--out={pretrained}", *short)
    trained, trained_path = typed("trained")
    fitting = [f"--target=mine={images}", f"--init={pretrained}", f"--unlabeled={pseudo}", f"--out={trained}"]
    run(monkeypatch, "pptrain", "run", *fitting, *short)
    evaluation, evaluation_path = typed("evaluation.json")
    run(monkeypatch, "pptrain", "eval", trained, f"--target={images}", f"--out={evaluation}")
    table, table_path = typed("table.csv")
    run(monkeypatch, "pptrain", "predict", trained, images, f"--out={table}")
    exported, exported_path = typed("exported.pt2")
    run(monkeypatch, "pptrain", "export", trained, "--to=torch-export", f"--out={exported}")
    config, config_path = typed("config.yaml")
    again, again_path = typed("again")
    config_path.write_text(
        f"out: {json.dumps(again)}\ndata: {{target: {json.dumps(images)}}}\noptim: {{steps: 2}}\n", "ascii"
    )
    run(monkeypatch, "pptrain", "run", f"--config={config}", "--device=cpu")
    flow, flow_path = typed("flow")
    recipe, recipe_path = typed("recipe.yaml")
    recipe_path.write_text(RECIPE)
    run(monkeypatch, "ppflow", "run", recipe, f"--target={images}", f"--out={flow}", "--jobs=1")
    run(monkeypatch, "ppflow", "table", flow)
    new, new_path = typed("new.yaml")
    run(monkeypatch, "ppflow", "new", images, f"--out={new}")
    files = [pseudo_path / "manifest.parquet", bank_path / "plan.json", pulled_path / "manifest.parquet"]
    files += [
        gathered_path / "manifest.parquet",
        pretrained_path / "model/config.json",
        trained_path / "result.json",
    ]
    files += [
        evaluation_path,
        table_path,
        exported_path,
        again_path / "result.json",
        flow_path / "results.csv",
        new_path,
    ]
    assert all(file.is_file() for file in files)
    strays = {file.name for folder in ("home", "here") for file in (tmp_path / folder).glob("[!.]*")}
    assert strays <= {file.name + end for file in typed.paths for end in ("", ".json")}


SEVERAL = """
import importlib, sys

for command in sys.argv[1:]:
    print("---", flush=True)
    sys.argv = command.split()
    try:
        importlib.import_module(f"{sys.argv[0]}.cli").main()
    except SystemExit as end:
        if end.code:
            raise
"""
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}


@pytest.mark.slow
def test_names_outside_ascii_in_the_locale_c(tmp_path: Path) -> None:
    """In child processes, too; and the report of a class is the same text as in UTF-8."""
    write_images(tmp_path / "images")

    def run_in(locale: dict[str, str], *commands: str) -> bytes:
        """What the last command prints; they run one after the other in a process of their own."""
        command = [os.fsencode(word) for word in [sys.executable, "-c", SEVERAL, *commands]]
        done = subprocess.run(command, cwd=tmp_path, env={**os.environ, **locale}, capture_output=True)
        assert done.returncode == 0, done.stderr[-3000:]
        assert b"Traceback" not in done.stderr
        return done.stdout.split(b"---\n")[-1]

    assert b"\\xe9" in run_in(
        ASCII,
        "ppgen targets mine=images",
        "ppgen synth --source=bank:images --per-class=2 --batch-size=4 --device=cpu --workers=2 --out=é-synth",
        "pptrain run --target=images --steps=2 --device=cpu --out=é",
        "pptrain eval é --target=images --out=é.json",
        "pptrain predict é images --out=é.csv",
        "pptrain predict é images",
    )
    table = (tmp_path / "é.csv").read_text("utf-8")
    assert {"é", r"caf\xe9"} == set(list(csv.reader(table.splitlines()))[1][1::2])
    printed = run_in({"LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"}, "pptrain predict é images")
    assert printed.decode().split() == table.split()


@pytest.mark.parametrize(
    "words",
    [
        ["ppgen", "targets", "n" * 256],
        ["ppgen", "synth", "--source=letters", "--per-class=1", f"--out={'n' * 256}", "--device=cpu"],
        ["ppgen", "verify", "n" * 256],
        ["pptrain", "eval", "n" * 256, "--target=digits"],
        ["pptrain", "run", "--target=digits", f"--out={'n' * 256}"],
        ["pptrain", "predict", "letters", "n" * 256],
        ["pptrain", "predict", "letters", "here.png", f"--out={'n' * 256}.csv"],
        ["ppflow", "show", "n" * 256],
        ["ppflow", "new", "digits", f"--out={'n' * 256}"],
    ],
)
def test_a_name_that_is_too_long_gives_one_sentence(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((32, 32), np.uint8)).save("here.png")
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as stop:
        MAINS[words[0]]()
    error = capsys.readouterr().err.splitlines()[-1]
    assert stop.value.code == 2
    assert error.startswith("error: ")
    assert "n" * 50 in error
    assert "too long" in error.lower()
