"""Which code a command may import. A directory or a model that someone else made is data, also where it names code (`module:callable`).

Such a name is followed only where the person at the command line typed it, or gave `--trust-code`, or where the same code did its work on
this machine before because somebody here had typed its name: that is remembered in the user's state directory, an empty file a digest.
"""

from __future__ import annotations

import hashlib
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

from ppcore.storage import Store


@dataclass(frozen=True)
class Trust:
    """What the person at the command line allows; picklable, for workers.

    Attributes:
        code: `--trust-code`: any code that a directory or a model names.
        typed: callables that stand on this command line.
    """

    code: bool = False
    typed: tuple[str, ...] = ()

    def allows(self, name: str) -> bool:
        """Whether the code `module:callable` may be imported and called."""
        return self.code or name in self.typed or is_remembered(_code_words(name))


NOBODY = Trust()
"""Nothing was typed but the directory."""


def remember_code(name: str) -> None:
    """Let this machine's later commands follow `module:callable` where a directory names it, as long as the module's file is the same."""
    remember(_code_words(name))


def remember(words: tuple[str, ...]) -> None:
    """Note that somebody here asked for this. A home that cannot be written remembers nothing: then it has to be typed again."""
    if words:
        with suppress(OSError, RuntimeError):
            Store(_state()).write_atomic(_digest(words), b"")


def is_remembered(words: tuple[str, ...]) -> bool:
    """Whether :func:`remember` was told the same words before."""
    try:
        return bool(words) and (_state() / _digest(words)).is_file()
    except (OSError, RuntimeError):
        return False


def target_words(fingerprint: str, target: str) -> tuple[str, ...]:
    """What ppgen remembers of a target that was typed for a pseudo directory, so that pptrain may open it from the directory's plan."""
    return ("target", fingerprint, target)


def code_digest(name: str) -> str:
    """sha256 (hex) of the file of the module of `module:callable`, found without importing it; "" where there is none."""
    words = _code_words(name)
    return words[-1] if words else ""


def _code_words(name: str) -> tuple[str, ...]:
    """What identifies a callable's code: its name and its module's file; nothing where there is no such file."""
    file = _module_file(name.partition(":")[0])
    try:
        return () if file is None else ("code", name, hashlib.sha256(file.read_bytes()).hexdigest())
    except OSError:
        return ()


def _module_file(module: str) -> Path | None:
    """Where a module's code is, found without importing anything: a package's own code would run."""
    here = os.getcwd()
    places: list[str] | None = sys.path if here in sys.path or "" in sys.path else [here, *sys.path]
    found = None
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        found = None if places is None else PathFinder.find_spec(".".join(parts[:end]), places)
        if found is None:
            return None
        places = found.submodule_search_locations
    return None if found is None or found.origin is None else Path(found.origin)


def _state() -> Path:
    """The user's state directory, by the XDG base directory specification. Raises RuntimeError where there is no home."""
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".local" / "state") / "pptransfer"


def _digest(words: tuple[str, ...]) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()
