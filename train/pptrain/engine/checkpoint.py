"""Resume points: everything the next step depends on, in one file that appears whole or not at all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from ppcore.errors import UserError
from ppcore.storage import Store

FOLDER, LAST = "checkpoint", "last.pt"


def save_checkpoint(run: Path, state: dict[str, Any]) -> Path:
    """Write `state` (tensors, numbers, strings, lists and dicts of them) as the run's resume point."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    store = Store(run / FOLDER)
    store.write_atomic(LAST, buffer.getvalue())
    return run / FOLDER / LAST


def load_checkpoint(run: Path) -> dict[str, Any] | None:
    """The run's resume point, or None.

    Raises:
        UserError: damaged.
    """
    path = run / FOLDER / LAST
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for a damaged file
        raise UserError(
            f"the resume point {path} cannot be read ({str(error).splitlines()[0]}); delete it to start again"
        ) from error


def drop_checkpoint(run: Path) -> None:
    """Remove the resume point of a finished run."""
    Store(run).delete(f"{FOLDER}/{LAST}")
    folder = run / FOLDER
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
