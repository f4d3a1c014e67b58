"""Which code a command may import when a model directory names it as `module:callable`, and the digest of such code."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ppcore.places import look_in_working_directory


@dataclass(frozen=True)
class Trust:
    """The code that the user allowed on this command line; can be pickled and sent to workers.

    Attributes:
        code: `--trust-code` was given: any code that a directory or a model names may run.
        typed: the `module:callable` names that stand on the command line.
    """

    code: bool = False
    typed: tuple[str, ...] = ()

    def allows(self, name: str) -> bool:
        """Whether the code `module:callable` may be imported and called."""
        return self.code or name in self.typed


NOBODY = Trust()
"""No code is allowed."""


def code_digest(name: str) -> str:
    """sha256 (hex) of the file that holds the module of `module:callable`; "" if there is no such file."""
    look_in_working_directory()
    try:
        spec = find_spec(name.partition(":")[0])
        return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest() if spec and spec.origin else ""
    except (ImportError, ValueError, OSError):
        return ""
