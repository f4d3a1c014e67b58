"""The programs, run from the wheel in an empty directory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from wheels import Program

from ppcore import __version__

SYNTH = "ppgen synth --source letters --classes 0-3 --per-class 2 --device cpu --out shards"
TRAIN = "pptrain run --shards shards --arch mobile --steps 2 --batch-size 4 --device cpu --set loop.tensorboard=false --out run"

# Packages a trainer's machine does not have. What asks for one is written down, since a library may ask and go on without.
WATCHMAN = """
import sys
from importlib.abc import MetaPathFinder

class Watchman(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("ray", "diffusers", "ppgen"):
            with open("asked.txt", "a") as handle:
                handle.write(name + "\\n")
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Watchman())
"""


@pytest.mark.parametrize("name", ["ppgen", "pptrain", "ppflow"])
def test_version(program: Program, unpacked: Path, tmp_path: Path, name: str) -> None:
    assert program(f"{name} --version").stdout == f"{name} {__version__}, shard format 2\n"
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, ppcore\natexit.register(print, ppcore.__file__)\n"
    )
    assert str(unpacked) in program(f"{name} --version", tmp_path).stdout


@pytest.mark.parametrize(("name", "word"), [("ppgen", "synth"), ("pptrain", "export"), ("ppflow", "list")])
def test_shells_complete_commands(program: Program, name: str, word: str) -> None:
    asked = {
        f"_{name.upper()}_COMPLETE": "complete_bash",
        "COMP_WORDS": f"{name} {word[:3]}",
        "COMP_CWORD": "1",
    }
    assert program(name, **asked).stdout.split() == [word]
    # Typer looks at the processes above for a shell, and make may stand there with a plain sh.
    named = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    assert f"_{name}_completion" in program(f"{name} --show-completion bash", **named).stdout


@pytest.mark.parametrize(
    "command",
    [
        "ppgen --version",
        "ppgen synth --help",
        "pptrain --help",
        "ppflow --help",
        "ppflow list",
        "ppflow show demo",
    ],
)
def test_what_must_be_quick_loads_nothing_heavy(program: Program, tmp_path: Path, command: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        WATCHMAN.replace('"ray", "diffusers", "ppgen"', '"torch", "scipy"')
    )
    program(command, tmp_path)
    assert not (tmp_path / "empty/asked.txt").exists()


@pytest.mark.slow
def test_shards_and_a_classifier_from_an_empty_directory(program: Program, tmp_path: Path) -> None:
    """On a generation machine, then on a trainer's, which has neither Ray nor diffusers nor anything that asks for them."""
    program(SYNTH)
    assert (tmp_path / "empty/shards/index.json").exists()
    (tmp_path / "sitecustomize.py").write_text(WATCHMAN)
    program(TRAIN, tmp_path)
    program("pptrain eval run --target digits --device cpu", tmp_path, status=2)  # letters are no digits
    assert not (tmp_path / "empty/asked.txt").exists()
    refused = program(SYNTH.replace("shards", "more").replace("ppgen", "pptrain"), tmp_path, status=2)
    assert "No such command" in refused.stderr


@pytest.mark.slow
def test_the_demo_from_an_empty_directory(program: Program, tmp_path: Path) -> None:
    """One row, whose stages are a generation and a training in processes of their own."""
    shown = program("ppflow run demo --scale tiny --seeds 1 --rows P-SSL")
    assert "| P-SSL" in shown.stdout
    assert (tmp_path / "empty/runs/demo-tiny/report.html").exists()


@pytest.mark.slow
def test_a_generation_machine_without_diffusers_is_told_what_to_install(
    program: Program, tmp_path: Path
) -> None:
    """And the watchman watches."""
    (tmp_path / "sitecustomize.py").write_text(WATCHMAN.replace(', "ppgen"', ""))
    refused = program(SYNTH, tmp_path, status=2)
    assert refused.stderr.startswith("error: letters needs the package diffusers")
    assert "pptransfer[generate]" in refused.stderr
    assert "diffusers" in (tmp_path / "empty/asked.txt").read_text()


@pytest.mark.slow
def test_doctor(program: Program) -> None:
    report = json.loads(program("ppgen doctor --json").stdout)
    states = {finding["check"]: finding["state"] for finding in report["findings"]}
    assert report["version"] == __version__
    assert {states[name] for name in ("packages", "out")} == {"ok"}
    assert all(bool(f["lost"]) == bool(f["remedy"]) for f in report["findings"])
    assert all(bool(f["lost"]) == (f["state"] != "ok") for f in report["findings"])
