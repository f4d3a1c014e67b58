"""What went wrong in a worker, and whose fault it is: the shard's, the machine's, or the place's as a whole."""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from traceback import format_exception
from typing import Literal

from ppcore.errors import UserError
from ppcore.storage import UnreachableError

Blame = Literal["work", "machine", "node"]
"""`work`: the shard's or its worker's, others will tell; `machine`: never the shard's; `node`: nothing works there until someone
mends it."""

_NODE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
_MACHINE = {errno.EIO, errno.ESTALE, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENODEV, errno.ENXIO}
_DEVICE = re.compile(
    r"(CUDA|cuDNN|cuBLAS|NCCL|HIP|NVML)\w* (error|out of memory)|CU(BLAS|DNN)_STATUS|\bXid\b"
)
_OF_THE_DATA = "device-side assert"  # an index out of range in a kernel: as much the shard's as an exception


@dataclass(frozen=True)
class WorkerLocation:
    """Where a worker runs.

    Attributes:
        worker: its process, different for every process.
        node: the machine.
        device: `cpu`, or the GPU by its number on the node.
    """

    worker: str
    node: str
    device: str

    def __str__(self) -> str:
        return f"{self.node} ({self.device}, {self.worker})"


@dataclass(frozen=True)
class Failure:
    """An exception in a worker; passes from process to process.

    Attributes:
        error: the exception, reduced to what can be pickled anywhere.
        traceback: of the original, as text.
        blame: what it counts against.
    """

    error: BaseException
    traceback: str
    blame: Blame = "work"

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """The failure of an attempt that raised `error`."""
        return cls(_picklable(error), "".join(format_exception(error)).strip(), _blame(error))

    @property
    def reason(self) -> str:
        """The last line of the traceback."""
        return last_line(self.traceback)

    @property
    def of_the_process(self) -> bool:
        """Whether it may stay with the process, as a CUDA error does, and not with a file or a server."""
        return self.blame == "machine" and not isinstance(self.error, OSError | UserError)

    def for_the_user(self, out: str) -> UserError:
        """A `node` failure as the sentence that ends a run."""
        if isinstance(self.error, UserError):
            return self.error
        assert isinstance(self.error, OSError), self.error
        return UserError(
            f"cannot write to {out} ({self.error.strerror}); make it writable or free some space, then run the same command "
            f"again to resume"
        )


def last_line(text: str) -> str:
    """What a person reads of a traceback."""
    return text.strip().splitlines()[-1] if text.strip() else "no reason known"


def _blame(error: BaseException) -> Blame:
    if isinstance(error, UnreachableError | MemoryError):
        return "machine"
    if isinstance(error, UserError):
        return "node"
    if isinstance(error, OSError):
        return "node" if error.errno in _NODE else "machine" if error.errno in _MACHINE else "work"
    device = _DEVICE.search(str(error)) is not None and _OF_THE_DATA not in str(error)
    return "machine" if device else "work"


def _picklable(error: BaseException) -> BaseException:
    for kind in (UnreachableError, UserError):
        if isinstance(error, kind):
            return kind(str(error))
    if isinstance(error, OSError):
        return OSError(error.errno, error.strerror)
    return RuntimeError(str(error))
