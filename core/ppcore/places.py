"""Places as people write them, with `~` and as `file://` URLs; and where Python looks for the user's own modules."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

# At the beginning, and after the signs behind which options have a place: NAME=DIR, train=GLOB,test=GLOB, ARCH@FILE, bank:DIR.
_HOME = re.compile(r"(?<![^=,@:])~[\w.-]*(?=/)")
_FILE = re.compile(r"(?<![^=,@:])file://(?:localhost)?(/[^,]*)")


def local_path(text: str) -> str:
    """The text with home directories for `~/` and `~user/`, and with paths for `file://` URLs; other text stays as it is.

    Both are replaced where a place can begin: first, or behind `=`, `,`, `@` or `:`. The programs do this with every word of their
    command line and with the places in their YAML files, and functions that open a place do it with their argument.
    """
    text = _FILE.sub(lambda url: unquote(url[1], errors="surrogateescape"), text)
    return _HOME.sub(lambda home: os.path.expanduser(home[0]), text)


def local_paths(value: Any) -> Any:
    """A value of a YAML file with :func:`local_path` of every text in it, in mappings and lists, too."""
    if isinstance(value, str):
        return local_path(value)
    if isinstance(value, dict):
        return {name: local_paths(inner) for name, inner in value.items()}
    return [local_paths(inner) for inner in value] if isinstance(value, list) else value


def look_in_working_directory() -> None:
    """Make modules of the working directory importable. It is searched last: a `types.py` there must not replace Python's module."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def search_working_directory_last() -> None:
    """Move the working directory, which `python -m` and `python -c` search first, to the end; child processes do not search it first.

    A child gets its path from this process if it needs the user's modules.
    """
    with suppress(FileNotFoundError):  # the working directory was deleted
        if sys.path[0] in ("", os.getcwd()):
            sys.path.append(sys.path.pop(0))
    os.environ["PYTHONSAFEPATH"] = "1"
