"""A generator that takes almost no time, for measuring the program around a generator. Images are looked up by class and seed."""

from __future__ import annotations

import fcntl
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from ppcore.errors import UserError

_KEPT: list[Any] = []
_VARIANTS = 64  # number of noise fields
_SLOW_S = 8.0


class Procedural:
    """Grey pictures: the class number in binary in the first row, one of 64 fixed noise fields below.

    Args:
        delay: seconds that every batch waits.
        slow: path of a file; while it exists, a batch takes 8 s.
        sick: (message, batches): sampling raises this message after so many batches; no message: it never does.
    """

    licence, revision, channels = "CC0-1.0", "1", 1

    def __init__(
        self, classes: int, side: int, delay: float, slow: str = "", sick: tuple[str, int] = ("", 0)
    ) -> None:
        self._slow = Path(slow) if slow else None
        self._sick, self._batches_left = sick
        self.num_classes, self.resolution, self.delay = classes, side, delay
        self.class_names = tuple(f"class {i}" for i in range(classes))
        noise = torch.randint(0, 256, (_VARIANTS, 1, side, side), generator=torch.Generator().manual_seed(0))
        self._noise = noise.to(torch.uint8)
        bits = (torch.arange(classes)[:, None] >> torch.arange(min(side, 16))) & 1
        self._bits = (bits * 255).to(torch.uint8)  # (K, bits)

    def describe(self) -> dict[str, Any]:
        return {"sampling": {}}

    def sample(self, condition: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
        """float32 (B, K), int64 (B,) -> uint8 (B, 1, side, side)."""
        if self._sick and self._batches_left <= 0:
            raise RuntimeError(self._sick)
        self._batches_left -= 1
        if self.delay:
            time.sleep(self.delay)
        started = time.monotonic()
        while self._slow is not None and self._slow.exists() and time.monotonic() < started + _SLOW_S:
            time.sleep(0.1)
        images = self._noise[seeds % _VARIANTS]
        bits = self._bits[condition.argmax(dim=1)]
        images[:, 0, 0, : bits.shape[1]] = bits
        return images


def build(
    classes: int = 1000,
    side: int = 8,
    delay: float = 0.0,
    pids: str = "",
    slow: str = "",
    sick: str = "",
    sick_after: int = 0,
    reason: str = "sick",
) -> Procedural:
    """Make the generator; `--source procedural:build`.

    Args:
        pids: folder in which every process that calls this leaves a file named by its process id.
        slow: see :class:`Procedural`.
        sick: path of a lock file; the first Ray worker that locks it raises, and so does its replacement on the same node.
        sick_after: batches that this worker makes before it raises.
        reason: message of the exception.

    Raises:
        UserError: on a node with BAD_NODE in its environment.
    """
    if "BAD_NODE" in os.environ:
        raise UserError("the weights are not on this node; copy them there")
    if pids:
        Path(pids, str(os.getpid())).touch()
    is_sick = bool(sick) and _is_first(sick)
    return Procedural(classes, side, delay, slow, (reason, sick_after) if is_sick else ("", 0))


def _is_first(path: str) -> bool:
    """Take the lock. True if this process is a Ray worker, got it, and runs on the node of the first worker that had it."""
    if Path(sys.argv[0]).name != "default_worker.py":
        return False
    import ray  # a worker of Ray has it

    handle = open(path, "a+")  # noqa: SIM115 (the lock lasts as long as the process)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    here = ray.get_runtime_context().get_node_id()
    handle.seek(0)
    if (first := handle.read()) and first != here:
        return False
    if not first:
        handle.write(here)
        handle.flush()
    _KEPT.append(handle)
    return True
