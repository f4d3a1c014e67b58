"""The painter of `dummy` for tests that hurt its workers: they leave their process numbers, and one seed may fail."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from dummy import Painter

from ppcore.errors import UserError


class FragilePainter(Painter):
    """A painter that raises for the sample with the seed `failing`, or for every one when it is `sick`."""

    def __init__(self, delay: float, failing: int, version: int, sick: bool, on: str) -> None:
        super().__init__(10, 0.0 if sick else delay, version=version)
        self._failing, self._sick, self._on = failing, sick, on

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), **({"on": self._on} if self._on else {})}

    def sample(self, condition: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
        if self._sick:
            raise RuntimeError("no such tensor")
        if self._failing in seeds.tolist():
            raise ValueError("this sample is cursed")
        return super().sample(condition, seeds)


def build(
    delay: float = 0.0,
    failing: int = -1,
    version: int = 1,
    pids: str = "",
    sick: str = "",
    says_gpus: bool = False,
) -> FragilePainter:
    """The `module:callable`.

    Args:
        pids: a folder for one file a process, named after it, that holds the GPUs it sees.
        sick: a file that the first worker makes, or "GPU 3"; that worker, or those on that GPU, fail at once.
        says_gpus: whether the GPUs it sees are part of what it says of itself.

    Raises:
        UserError: on a node with BAD_NODE in its environment.
    """
    if "BAD_NODE" in os.environ:
        time.sleep(float(os.environ["BAD_NODE"]))
        raise UserError("the weights are not on this node; copy them there")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "none")
    if pids:
        Path(pids, str(os.getpid())).write_text(visible)
    return FragilePainter(
        delay, failing, version, bool(sick) and _is_sick(sick, visible), visible if says_gpus else ""
    )


def _is_sick(sick: str, visible: str) -> bool:
    if sick.startswith("GPU "):
        return sick == f"GPU {visible}"
    if multiprocessing.parent_process() is None and Path(sys.argv[0]).name != "default_worker.py":
        return False  # a driver
    try:
        Path(sick).touch(exist_ok=False)
    except OSError:
        return False
    return True
