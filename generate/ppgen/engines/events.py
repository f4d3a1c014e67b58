"""What happens in a run, as its watchers receive it and as the event log stores it; and the outcome of a run."""

from __future__ import annotations

import errno
import json
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from traceback import format_exception
from typing import Annotated, Literal

from pydantic import Field

from ppcore.errors import UserError
from ppcore.storage import UnreachableError

_MAX_TEXT = 4000  # characters that the log keeps; of a longer traceback the end
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, kw_only=True)
class Event:
    """One event. Fields that an event does not have are None.

    Attributes:
        event: what has happened:
            `began`, `ended`: the run. `samples` and `shards` are to be made; `status` is the exit status, None after a crash.
            `joined`, `left`: a worker is ready for shards, or has stopped.
            `workers`: the number of workers has changed: `alive` are ready, `wanted` are wanted.
            `sampled`: some `samples` are drawn, not yet committed; those of a retried shard count again.
            `committed`: a shard is complete: its files and its commit record are written.
            `missed`: an attempt at a shard failed: the worker raised an exception or died.
            `failed`: a shard is not retried any more in this run.
            `quarantined`: a node or a device, named by `worker`, gets no more shards in this run.
            `notice`: a message for the user. `progress`: only in the log: the samples drawn so far.
        worker, node, device: where it happened.
        attempt: of `missed`: number of the attempt, from 1; `again`: the shard will be retried; `died`: the worker has died.
        seconds: of `committed`: from the first sample to the commit.
        text: an error, a notice, a description of the workers.
        time: seconds since 1970, by the clock of the driver.
    """

    event: str
    time: Seconds = field(default_factory=lambda: round(time.time(), 3))
    run: str | None = None
    worker: str | None = None
    node: str | None = None
    device: str | None = None
    shard: Count | None = None
    samples: Count | None = None
    shards: Count | None = None
    seconds: Seconds | None = None
    attempt: Count | None = None
    again: bool | None = None
    died: bool | None = None
    alive: Count | None = None
    wanted: Count | None = None
    status: int | None = None
    text: str | None = None

    @property
    def place(self) -> str:
        """Node, device and process of the worker."""
        return f"{self.node} ({self.device}, {self.worker})"

    def encode(self) -> bytes:
        """A line of the event log: JSON and a line feed."""
        given = {key: value for key, value in asdict(self).items() if value is not None}
        if self.text:
            given["text"] = self.text[-_MAX_TEXT:]
        return json.dumps(given, ensure_ascii=False).encode() + b"\n"


OnEvent = Callable[[Event], None]


@dataclass
class Outcome:
    """What a run could not make.

    Attributes:
        failed: shard -> its last error.
        not_tried: number of shards that were never tried, because the run stopped early.
        stopped: why the run stopped early; empty if it did not.
    """

    failed: dict[int, str] = field(default_factory=dict)
    not_tried: int = 0
    stopped: str = ""


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
