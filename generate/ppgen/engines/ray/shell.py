"""The outside of a worker on Ray: what starts on any node, whatever is installed there.

This file is sent to the nodes by value and imports nothing but the standard library at its top: a node where the package is missing
or broken answers with the reason, and does not merely die without saying where.
"""

from __future__ import annotations

import importlib
import os
import pickle
import platform
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

GROUPS = {"commit": 1, "progress": 1}  # threads beside the one that samples, for the methods of these names


@dataclass(frozen=True)
class Broken:
    """A node's environment cannot run workers; `reason` is a traceback."""

    reason: str


class Shell:
    """A :class:`ppgen.engines.ray.actor.WorkerActor` behind a late import.

    Args:
        folder: working directory of the driver, so that relative paths mean the same here.
        path: import path of the driver, for the user's own modules.
    """

    def __init__(self, folder: str, path: Sequence[str]) -> None:
        if os.path.isdir(folder):
            os.chdir(folder)
        sys.path.extend(entry for entry in path if entry not in sys.path)
        self._worker: Any = None

    def where(self) -> tuple[str, str, str, str]:
        """(worker, node, device, Ray's id of the node)."""
        import ray  # optional: only on Ray, where it is there

        context = ray.get_runtime_context()
        gpus = context.get_accelerator_ids().get("GPU", [])
        device = f"GPU {'+'.join(map(str, gpus))}" if gpus else "cpu"
        node = context.get_node_id()
        return f"process {os.getpid()}", f"{platform.node()} (node {node[:8]})", device, node

    def load(self, module: str, name: str, arguments: bytes) -> Any:
        """Open `module.name` with the pickled arguments; returns what it cannot do, or None."""
        try:
            make = getattr(importlib.import_module(module), name)
            self._worker = make(*pickle.loads(arguments))
        except Exception:
            return Broken(traceback.format_exc())
        return self._worker.load()

    def sample(self, shard: int) -> Any:
        """See WorkerActor."""
        return self._worker.sample(shard)

    def commit(self, shard: int) -> Any:
        """See WorkerActor."""
        return self._worker.commit(shard)

    def progress(self) -> int:
        """See WorkerActor."""
        return self._worker.progress()
