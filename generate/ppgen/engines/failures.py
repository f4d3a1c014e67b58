"""An exception of a worker in a form that can be sent to the driver, and what kind of fault it is."""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from traceback import format_exception
from typing import Literal

from ppcore.errors import UserError
from ppcore.storage import UnreachableError

Kind = Literal["shard", "machine", "node", "death"]
"""`shard`: an exception that the shard or its worker may have caused; `machine`: a fault of the machine or the store, never of the
shard; `node`: no worker can work on this node until somebody repairs it; `death`: the worker's process has ended."""

_NODE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
_MACHINE = {errno.EIO, errno.ESTALE, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENODEV, errno.ENXIO}
_DEVICE = re.compile(
    r"(CUDA|cuDNN|cuBLAS|NCCL|HIP|NVML)\w* (error|out of memory)|CU(BLAS|DNN)_STATUS|\bXid\b"
)
_OF_THE_DATA = "device-side assert"  # a kernel got an index out of range: the shard may be the cause


@dataclass(frozen=True)
class Failure:
    """Why an attempt at a shard, or the start of a worker, failed.

    Attributes:
        error: the exception as UserError, OSError or RuntimeError: other types may not unpickle in another process.
        text: its traceback, or why the worker died.
        kind: what it counts against, see :data:`Kind`.
    """

    error: Exception
    text: str
    kind: Kind

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """The failure of code that raised `error`."""
        return cls(_picklable(error), "".join(format_exception(error)).strip(), _kind(error))

    @classmethod
    def death(cls, reason: str) -> Failure:
        """The failure of a worker whose process has ended."""
        return cls(RuntimeError(reason), reason, "death")

    @property
    def reason(self) -> str:
        """The last line of the text."""
        return last_line(self.text)

    @property
    def spoils_process(self) -> bool:
        """Whether the process itself stays unusable, as after a CUDA error."""
        return self.kind == "machine" and not isinstance(self.error, OSError | UserError)

    def for_the_user(self, out: str) -> UserError:
        """The sentence that ends the run after a failure of kind `node`."""
        if isinstance(self.error, UserError):
            return self.error
        assert isinstance(self.error, OSError), self.error
        return UserError(
            f"cannot write to {out} ({self.error.strerror}); make it writable or free some space, then run the same command "
            f"again to resume"
        )


def last_line(text: str) -> str:
    """The last line of a traceback: the exception and its message."""
    return text.strip().splitlines()[-1] if text.strip() else "unknown reason"


def _kind(error: Exception) -> Kind:
    if isinstance(error, UnreachableError | MemoryError):
        return "machine"
    if isinstance(error, UserError):
        return "node"
    if isinstance(error, OSError):
        return "node" if error.errno in _NODE else "machine" if error.errno in _MACHINE else "shard"
    device = _DEVICE.search(str(error)) is not None and _OF_THE_DATA not in str(error)
    return "machine" if device else "shard"


def _picklable(error: Exception) -> Exception:
    for kind in (UnreachableError, UserError):
        if isinstance(error, kind):
            return kind(str(error))
    if isinstance(error, OSError):
        return OSError(error.errno, error.strerror)
    return RuntimeError(str(error))
