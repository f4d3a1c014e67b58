"""Reading a Dockerfile, and its steps in a root that only notes them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from files import DOCKER

TEXT = """
ARG BASE=debian
FROM ${BASE} AS base
# a comment
ENV A=1 PATH=/mine:$PATH
RUN one \\
 # in between
 && two
FROM base AS tools
WORKDIR /made
COPY a.txt b /there/
RUN tool
FROM base AS other
RUN never
FROM base
FROM base AS last
ARG NAME=x
COPY --from=tools /made /made
RUN three "$NAME"
USER 1000
CMD ["four", "5"]
"""


def _load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, DOCKER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


rehearse = _load("rehearse")


def test_only_what_a_target_is_made_of_is_done() -> None:
    steps = rehearse.steps_of(rehearse.parse(TEXT), "last")
    assert [step.text for step in steps if step.word == "RUN"] == ["one && two", "tool", 'three "$NAME"']
    with pytest.raises(KeyError):
        rehearse.steps_of(rehearse.parse(TEXT), "nowhere")


def test_steps_in_a_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tree/b").mkdir(parents=True)
    (tmp_path / "tree/a.txt").write_text("a")
    (tmp_path / "tree/b/c.txt").write_text("c")
    done: list[tuple[list[str], str, str, dict[str, str]]] = []

    def note(command: list[str], root: Path, state: Any) -> None:
        done.append((command, state.user, state.directory, dict(state.environment)))

    monkeypatch.setattr(rehearse, "run", note)
    steps = rehearse.steps_of(rehearse.parse(TEXT), "last")
    rehearse.rehearse(steps, tmp_path / "tree", tmp_path / "root", {"NAME": "y"})
    assert [command[-1] for command, *_ in done] == ["one && two", "tool", 'three "$NAME"', "5"]
    assert [(user, folder) for _, user, folder, _ in done] == [
        ("root", "/"),
        ("root", "/made"),
        ("root", "/"),
        ("1000", "/"),
    ]
    assert done[2][3]["NAME"] == "y"
    assert done[2][3]["PATH"].startswith("/mine:/")
    assert "NAME" not in done[1][3]
    assert (tmp_path / "root/there/a.txt").read_text() == "a"
    assert (tmp_path / "root/there/c.txt").read_text() == "c"


@pytest.mark.parametrize(("target", "word"), [("generate", "generate text s3"), ("train", "train export s3")])
def test_the_dockerfile_can_be_rehearsed(target: str, word: str) -> None:
    command = [sys.executable, str(DOCKER / "rehearse.py"), str(DOCKER / "Dockerfile"), "--target", target]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"requirements.py {word}" in printed
    assert "hatchling build" in printed


def test_a_trainer_is_given_neither_ray_nor_diffusers() -> None:
    requirements = _load("requirements").requirements
    lines = requirements(DOCKER.parent / "pyproject.toml", ["train", "export", "s3"])
    assert not [line for line in lines if line.startswith(("ray", "diffusers"))]
    assert [
        line
        for line in requirements(DOCKER.parent / "pyproject.toml", ["generate"])
        if line.startswith("ray")
    ]
    with pytest.raises(KeyError):
        requirements(DOCKER.parent / "pyproject.toml", ["nothing"])
