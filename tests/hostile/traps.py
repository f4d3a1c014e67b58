"""Code that must not run, files that must not be read, and commands as people type them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ppflow.cli import main as ppflow
from ppgen.cli import main as ppgen
from pptrain.cli import main as pptrain

PROGRAMS: dict[str, Callable[[], None]] = {"ppgen": ppgen, "pptrain": pptrain, "ppflow": ppflow}
_CODE = """\
from pathlib import Path
import torch
Path(__file__).with_suffix(".sprung").write_text("imported")

class Net(torch.nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.head = torch.nn.Linear(in_channels, num_classes)

    def forward(self, x):  # (B, C, H, W) -> (B, K)
        return self.head(x.mean(dim=(2, 3)))

def build(**options):
    from dummy import Painter
    return Painter()
"""


@dataclass
class Trap:
    """A module that leaves a mark when it is imported. `net` and `source` name what it holds."""

    folder: Path
    module: str

    def __post_init__(self) -> None:
        self.file.write_text(_CODE)

    @property
    def file(self) -> Path:
        return self.folder / f"{self.module}.py"

    @property
    def net(self) -> str:
        return f"{self.module}:Net"

    @property
    def source(self) -> str:
        return f"{self.module}:build"

    @property
    def sprung(self) -> bool:
        return self.file.with_suffix(".sprung").exists() or self.module in sys.modules


@dataclass
class Watch:
    """An audit hook: which files and folders Python opens, and which programs it starts, while `on`."""

    on: bool = False
    opened: list[str] = field(default_factory=list)
    started: list[str] = field(default_factory=list)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], str | os.PathLike):
            self.opened.append(os.path.realpath(arguments[0]))
        elif event in ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "socket.connect"):
            self.started.append(f"{event} {arguments}")

    @contextmanager
    def watching(self) -> Iterator[Watch]:
        self.opened, self.started, self.on = [], [], True
        try:
            yield self
        finally:
            self.on = False

    def inside(self, folder: Path) -> list[str]:
        """What was opened in a folder, or the folder itself."""
        return [name for name in self.opened if Path(name).is_relative_to(folder.resolve())]


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    status: int
    out: str
    err: str


def say(capsys: pytest.CaptureFixture[str], command: str, *arguments: object) -> Said:
    """A command line in this process, from its arguments to its exit status."""
    capsys.readouterr()
    handler, before = signal.getsignal(signal.SIGTERM), sys.argv
    sys.argv = [command, *map(str, arguments)]
    try:
        PROGRAMS[command]()
        status: Any = 0
    except SystemExit as exit_:
        status = exit_.code
    finally:
        sys.argv = before
        signal.signal(signal.SIGTERM, handler)
    return Said(int(status or 0), *capsys.readouterr())


def one_sentence(err: str) -> bool:
    """Whether the last thing said is the one line of a refusal, fit for a terminal; progress may stand before it."""
    lines = err.rstrip("\n").split("\n")
    return lines[-1].startswith("error: ") and err.count("error: ") == 1 and lines[-1].isprintable()
