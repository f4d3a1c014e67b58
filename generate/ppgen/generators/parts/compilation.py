"""Compiled networks: which mode, whether it pays, where machine code is kept, and what happens where it cannot be made."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ppcore.errors import UserError

MODES = ("none", "default", "graphs")
_FEWEST = 8  # batches of a plan below which nobody waits for a compiler
_HOPED = 0.5  # of a batch's time that compiling saves at best
_MANY = 400  # batches of a plan for which compiling pays where nobody has measured it
_QUICKEST = 20.0  # seconds that compiling takes at least

Forward = Callable[..., torch.Tensor]
Clock = Callable[[], float]


class Compilation:
    """How the networks of one generator run, all alike.

    Attributes:
        asked: `auto`, `none`, `default` or `graphs` (CUDA graphs, which save the launch of every kernel).
        mode: what the plan says; `auto` until it is settled, because on a GPU the size of the plan decides. It runs uncompiled until then.
        actual: what runs here: `none` where `auto` came to `default` and this machine has no compiler.

    Raises:
        UserError: unknown mode, or one was asked for by name and there is no compiler.
    """

    def __init__(self, asked: str, device: torch.device) -> None:
        if asked not in ("auto", *MODES):
            raise UserError(f"unknown compile mode {asked!r}; choose auto, {', '.join(MODES)}")
        self.asked, self.device = asked, device
        self.mode = "none" if asked == "auto" and device.type != "cuda" else asked
        self.actual = "none" if self.mode == "auto" else self.mode
        missing = None if self.actual == "none" else missing_compiler(device)
        if missing:
            raise UserError(
                f"compiling for {device.type} needs {missing} and none was found; install it or use compile=none"
            )

    def wrap(self, function: Forward) -> Forward:
        """`function`, static in its shapes, as the mode of the moment has it."""
        made: dict[str, Forward] = {}

        def forward(*inputs: Any) -> torch.Tensor:
            if self.actual not in made:
                made[self.actual] = _compiled(function, self.actual)
            return made[self.actual](*inputs)

        return forward

    def settle(self, mode: str) -> None:
        """Make `auto` definite. One warning where this machine cannot do what the plan says."""
        if self.asked != "auto":
            return
        self.mode = self.actual = mode
        missing = None if mode == "none" else missing_compiler(self.device)
        if missing:
            self.actual = "none"
            print(
                f"warning: no {missing} here, so the networks run uncompiled: slower, and other last bits than compiled ones (the commit "
                "records say which)",
                file=sys.stderr,
            )


def settle_for_plan(generator: Any, batch: int, samples: int, reproducible: bool = False) -> None:
    """Decide whether the networks of a generator are compiled, where that was left open, from the size of its plan.

    Two batches tell what a batch takes. Where compiling could save more than it costs it is done, and measured in its turn.
    """
    compilation = compilation_of(generator)
    if compilation is None or compilation.mode != "auto":
        return
    batches = -(-samples // batch)
    if reproducible or batches < _FEWEST or missing_compiler(compilation.device):
        compilation.settle("none")
        return
    compilation.settle(choose_mode(batches, lambda mode: _time_batch(generator, compilation, mode, batch)))


def settle_description(source: dict[str, Any], batches: int, reproducible: bool) -> dict[str, Any]:
    """A plan's `source` with a definite mode: a source that is described by a worker elsewhere is not measured, its size decides."""
    sampling = source.get("sampling")
    if not isinstance(sampling, dict) or sampling.get("compile") != "auto":
        return source
    mode = "default" if batches >= _MANY and not reproducible else "none"
    return {**source, "sampling": {**sampling, "compile": mode}}


def choose_mode(batches: int, seconds: Callable[[str], float]) -> str:
    """`default` where compiling pays, else `none`.

    Args:
        batches: of the plan.
        seconds: mode -> seconds that a batch takes in it, the first call in a mode with all that it has to prepare.
    """
    seconds("none")  # warms up
    plain = seconds("none")
    if batches * plain * _HOPED < _QUICKEST:
        return "none"
    try:
        first = seconds("default")
        steady = seconds("default")
    except RuntimeError as error:  # of the compiler, or of the memory that compiled networks take
        print(f"warning: compiling failed, so it is left out ({_first_line(error)})", file=sys.stderr)
        return "none"
    saved, spent = batches * (plain - steady), first - steady
    print(
        f"compile: {plain:.3g} s a batch, compiled {steady:.3g} s after {spent:.0f} s, {batches} batches",
        file=sys.stderr,
    )
    return "default" if saved > spent else "none"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def settle_as_planned(generator: Any, source: dict[str, Any]) -> None:
    """Run the networks as a plan's `source` says, where the user left it open."""
    compilation = compilation_of(generator)
    sampling = source.get("sampling")
    planned = sampling.get("compile") if isinstance(sampling, dict) else None
    if compilation is not None and planned in MODES and planned != compilation.mode:
        compilation.settle(str(planned))


def compilation_of(generator: Any) -> Compilation | None:
    """Of a generator whose networks can be compiled."""
    found = getattr(generator, "compilation", None)
    return found if isinstance(found, Compilation) else None


def compile_mode(generator: Any) -> str:
    """How the networks of any generator run here."""
    compilation = compilation_of(generator)
    return "none" if compilation is None else compilation.actual


def missing_compiler(device: torch.device) -> str | None:
    """The compiler that machine code for the device needs and this machine lacks."""
    if device.type == "cuda":  # for the launchers of the kernels
        names, what = [os.environ.get("CC", ""), "gcc", "cc", "clang"], "C compiler"
    else:
        names, what = [os.environ.get("CXX", "g++")], "C++ compiler"
    return None if any(name and shutil.which(name) for name in names) else what


def keep_machine_code_on_node() -> None:
    """One cache of machine code for all workers of a node, on its own disk: the second worker finds what the first compiled.

    A directory of that name which is not this user's, or open to others, is left alone: what lies there is executed.
    """
    if "TORCHINDUCTOR_CACHE_DIR" in os.environ:
        return
    folder = Path(tempfile.gettempdir()) / f"ppgen-machine-code-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        state = folder.lstat()
    except OSError:
        return
    if (
        folder.is_dir()
        and not folder.is_symlink()
        and state.st_uid == os.getuid()
        and not state.st_mode & 0o077
    ):
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)


def _compiled(function: Forward, mode: str) -> Forward:
    if mode == "none":
        return function
    keep_machine_code_on_node()
    if mode == "default":
        return torch.compile(function, dynamic=False)
    recorded = torch.compile(function, dynamic=False, mode="reduce-overhead")
    return lambda *inputs: recorded(*inputs).clone()  # the next replay overwrites what a graph returned


def _time_batch(generator: Any, compilation: Compilation, mode: str, batch: int) -> float:
    compilation.actual = mode
    condition = torch.eye(generator.num_classes)[:1].expand(batch, -1)
    start = time.perf_counter()
    generator.sample(condition, torch.arange(batch))[:1].cpu()  # the copy waits for the device
    return time.perf_counter() - start
