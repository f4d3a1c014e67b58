"""Carry out a Dockerfile's steps without an engine: every RUN line in a clean root, every COPY from the tree.

    debootstrap --variant=minbase --include=python3-venv,python3-dev,python-is-python3,ca-certificates bookworm /tmp/root
    python docker/rehearse.py docker/Dockerfile --target train --root /tmp/root                # as root: it changes the root
    python docker/rehearse.py docker/Dockerfile --target train                                 # prints the steps

The stages that a target is made of share the one root, in the order of the file; USER is obeyed by the last RUN lines and by the
command and the health check, which are run too.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Step:
    """One instruction: `RUN`, its text with line continuations joined, and the stage it stands in."""

    word: str
    text: str
    stage: str


@dataclass
class State:
    """What instructions change for those after them."""

    directory: str = "/"
    user: str = "root"
    shell: list[str] = field(default_factory=lambda: ["/bin/sh", "-c"])
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": _PATH, "HOME": "/root"})


def parse(text: str) -> list[Step]:
    """The instructions of a Dockerfile; comments and empty lines left out."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    steps: list[Step] = []
    stage, number = "", -1
    for line in joined.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word.upper() == "FROM":
            named = re.search(r"\sAS\s+(\S+)$", rest, re.IGNORECASE)
            number += 1
            stage = named[1] if named else str(number)
        steps.append(Step(word.upper(), rest.strip(), stage))
    return steps


def stages_of(steps: Sequence[Step], target: str) -> list[str]:
    """The stages a target is made of, itself last: those it starts from and those it copies from. Raises KeyError."""
    starts = {step.stage: step.text.split()[0] for step in steps if step.word == "FROM"}
    wanted = {target}
    pending = [target]
    while pending:
        stage = pending.pop()
        copied = [re.search(r"--from=(\S+)", s.text) for s in steps if s.stage == stage and s.word == "COPY"]
        for other in [starts[stage], *(found[1] for found in copied if found)]:
            if other in starts and other not in wanted:
                wanted.add(other)
                pending.append(other)
    return [stage for stage in starts if stage in wanted]


def steps_of(steps: Sequence[Step], target: str) -> list[Step]:
    """All that a target does, in order."""
    stages = stages_of(steps, target)
    return [step for stage in stages for step in steps if step.stage == stage]


def assignments(text: str) -> Iterator[tuple[str, str]]:
    """NAME=VALUE pairs of ENV and ARG; an ARG without a value is empty."""
    for word in shlex.split(text):
        name, _, value = word.partition("=")
        yield name, value


def copy_files(step: Step, tree: Path, root: Path, state: State) -> None:
    """COPY from the tree; what comes from another stage lies in the same root already."""
    if "--from=" in step.text:
        return
    *sources, destination = shlex.split(step.text)
    place = root / os.path.join(state.directory, destination).lstrip("/")
    for name in sources:
        source = tree / name
        if source.is_dir():
            shutil.copytree(source, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, place)


def run(command: Sequence[str], root: Path, state: State) -> None:
    """In the root, as the user. Raises CalledProcessError."""
    inside = ["chroot", f"--userspec={state.user}", str(root), "/usr/bin/env"]
    inside += [f"{name}={value}" for name, value in state.environment.items()]
    place = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', state.directory, *command]
    subprocess.run([*inside, *place], check=True)


def rehearse(steps: Sequence[Step], tree: Path, root: Path, arguments: dict[str, str]) -> None:
    """Do the steps one after the other. Raises CalledProcessError at the first that fails."""
    ended: dict[str, State] = {}
    state = State()
    for step in steps:
        print(f"[{step.stage}] {step.word} {step.text}", flush=True)
        match step.word:
            case "FROM":
                state = copy.deepcopy(ended.get(step.text.split()[0], State()))
                ended[step.stage] = state
            case "ENV":
                for name, value in assignments(step.text):
                    state.environment[name] = value.replace("$PATH", state.environment["PATH"])
            case "ARG":
                state.environment |= {n: arguments.get(n, v) for n, v in assignments(step.text)}
            case "WORKDIR":
                state.directory = step.text
                (root / step.text.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "USER":
                state.user, state.environment["HOME"] = step.text, "/home/pptransfer"
            case "SHELL":
                state.shell = json.loads(step.text)
            case "COPY":
                copy_files(step, tree, root, state)
            case "RUN":
                run([*state.shell, step.text], root, state)
            case "HEALTHCHECK":
                run(json.loads(step.text.split("CMD", 1)[1]), root, state)
            case "CMD":
                run(json.loads(step.text), root, state)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Carry out a Dockerfile's steps in a clean root.")
    parser.add_argument("dockerfile", type=Path)
    parser.add_argument("--target", required=True)
    parser.add_argument("--root", type=Path, help="a clean root; without one the steps are printed")
    parser.add_argument("--arg", action="append", default=[], help="NAME=VALUE of an ARG")
    options = parser.parse_args()
    steps = steps_of(parse(options.dockerfile.read_text()), options.target)
    if options.root is None:
        print("\n".join(f"[{step.stage}] {step.word} {step.text}" for step in steps))
        return
    given = dict(pair.split("=", 1) for pair in options.arg)
    rehearse(steps, options.dockerfile.parent.parent, options.root, given)


if __name__ == "__main__":
    main()
