"""What was measured before on this machine, in the user's cache directory: the runs of one table take one choice."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ppcore.errors import UserError
from ppcore.platforms import this_platform
from ppcore.storage import Store, read_json
from pptrain.engine.choice.numerics import Numerics
from pptrain.engine.task import Task


@dataclass(frozen=True)
class Measured:
    """A choice and why.

    Attributes:
        seconds: a step of the whole batch takes, as chosen.
        rates: what was tried -> steps a second, of the batch that was tried.
        batch: labelled images of that batch.
    """

    numerics: Numerics
    seconds: float
    rates: dict[str, float]
    batch: int


def address(task: Task, device: torch.device, tried: Sequence[Numerics], processes: int) -> str:
    """sha256 (hex) of all that the speeds of `tried` depend on: network, shapes, method, device, instructions, versions."""
    config = task.config
    network = [
        repr(task.net),
        *((name, list(t.shape), str(t.dtype)) for name, t in task.net.state_dict().items()),
    ]
    words: dict[str, Any] = {
        "version": 1,
        "network": [config.model.arch, network],
        "teacher": None if task.teacher is None else repr(task.teacher),
        "feeds": [(feed.shape, feed.share.local) for feed in (task.labeled, task.unlabeled) if feed],
        "images": [task.spec.channels, task.spec.resolution],
        "method": asdict(config.method),
        "optimiser": [config.optim.name, config.loop.ema > 0],
        "tried": [asdict(one) for one in tried],
        "platform": asdict(this_platform(device)),
        "processor": [
            torch.cpu.get_capabilities().get("cpu_name"),
            os.environ.get("ONEDNN_MAX_CPU_ISA", ""),
        ],
        "processes": processes,
    }
    return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()


def read(key: str) -> Measured | None:
    """What is kept under `key`; None where there is nothing that can be read."""
    try:
        return read_json(_folder() / f"{key}.json", Measured)
    except (OSError, ValueError, RuntimeError, UserError):  # RuntimeError: there is no home
        return None


def keep(key: str, found: Measured) -> Measured:
    """Keep `found`, unless a run beside this one was faster: returns what is kept now, or `found` where nothing can be."""
    try:
        folder = _folder()
        folder.mkdir(parents=True, exist_ok=True)
        store, name, data = Store(folder), f"{key}.json", json.dumps(asdict(found), indent=1).encode()
        if not store.create(name, data) and read(key) is None:
            store.write_atomic(name, data)  # what was there cannot be read
    except (OSError, RuntimeError, UserError):
        return found
    return read(key) or found


def _folder() -> Path:
    """By the XDG base directory specification. Raises RuntimeError where there is no home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "pptransfer" / "choices"
