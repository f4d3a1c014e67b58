"""The log of a training run: means of its losses, metrics.csv, TensorBoard, experiment trackers."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ppcore.console import print_warnings, printable_name
from ppcore.errors import UserError
from pptrain.config import flatten

CSV_FILE = "metrics.csv"
NEVER = 1 << 62
_COLUMNS = ["step", "epoch", "lr", "seconds", "images_per_s", "waiting"]
_COLUMNS += ["val_accuracy", "val_loss", "monitor_accuracy"]


class LossAverages:
    """Sums losses on the device, so that a training step never waits for a number.

    Attributes:
        sums: name of a loss -> () float32 on the device.
        first_bad: () int64 on the device, the first step whose loss was not a finite number; `NEVER` if there is none.
    """

    def __init__(self, device: torch.device) -> None:
        self.sums: dict[str, Tensor] = {}
        self.first_bad = torch.tensor(NEVER, device=device)

    def add(self, losses: dict[str, Tensor], step: int) -> None:
        """Add the losses of one (micro-)batch of `step`."""
        for name, value in losses.items():
            value = value.detach().float()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        bad = ~torch.isfinite(losses["loss"].detach())
        self.first_bad = torch.where(bad, self.first_bad.clamp(max=step), self.first_bad)

    def take(self, count: int) -> dict[str, float]:
        """Return the means over `count` batches and reset the sums; waits for the device."""
        means = {name: total.item() / max(count, 1) for name, total in self.sums.items()}
        self.sums = {}
        return means

    def first_bad_step(self) -> int | None:
        """The first step whose loss was not a finite number, or None; waits for the device."""
        step = int(self.first_bad)
        return None if step == NEVER else step


class MetricsWriter:
    """Writes rows of numbers to metrics.csv, TensorBoard and trackers.

    Args:
        run: run directory.
        resume_step: step that the run resumes at. Rows after it are deleted, because the run writes them again.
        tensorboard: also write TensorBoard events.
        trackers: names that accelerate knows (wandb, mlflow, trackio, ...).
        settings: the configuration that the trackers show.
    """

    def __init__(
        self, run: Path, resume_step: int, *, tensorboard: bool, trackers: list[str], settings: dict[str, Any]
    ) -> None:
        self.path = run / CSV_FILE
        self.columns: list[str] = []
        self._keep_before(resume_step)
        self._board: Any = None
        if tensorboard and printable_name(str(run)) != str(run):
            print_warnings(
                [f"{run} is no name in UTF-8, which TensorBoard needs; its event files are left out"]
            )
        elif tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter  # optional: of the extra `train`
            except ImportError as error:
                raise UserError(
                    "TensorBoard is not installed; pip install 'pptransfer[train]', or set loop.tensorboard=false"
                ) from error
            self._board = SummaryWriter(str(run / "tensorboard"), purge_step=resume_step or None)
        self._accelerator = _start_trackers(trackers, run, settings) if trackers else None

    def write(self, row: dict[str, float]) -> None:
        """Append one row; `row["step"]` is the number of finished steps."""
        if not self.columns:
            self.columns = _COLUMNS + sorted(set(row) - set(_COLUMNS))
            self._append(self.columns)
        self._append([_text(row.get(name)) for name in self.columns])
        step = int(row["step"])
        values = {name: value for name, value in row.items() if name != "step"}
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)
        if self._accelerator is not None:
            self._accelerator.log(values, step=step)

    def close(self) -> None:
        """Write everything that is still in memory."""
        if self._board is not None:
            self._board.close()
        if self._accelerator is not None:
            self._accelerator.end_training()

    def _append(self, cells: list[str]) -> None:
        with self.path.open("a", newline="", encoding="utf-8") as handle:
            csv.writer(handle).writerow(cells)

    def _keep_before(self, step: int) -> None:
        if not self.path.exists():
            return
        with self.path.open(newline="", encoding="utf-8") as handle:
            rows = list(csv.reader(handle))
        # A crash of the machine can leave an empty file, or a part of its first line.
        if step == 0 or len(rows) < 2:
            self.path.unlink()
            return
        self.columns = rows[0]
        kept = [row for row in rows[1:] if len(row) == len(rows[0]) and int(float(row[0])) <= step]
        with self.path.open("w", newline="", encoding="utf-8") as handle:
            csv.writer(handle).writerows([rows[0], *kept])


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def check_trackers(names: list[str]) -> None:
    """Raise UserError for a tracker that accelerate does not know or whose package is not installed."""
    if not names:
        return
    try:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers  # optional: `train`
    except ImportError as error:
        raise UserError("trackers need the package accelerate; pip install 'pptransfer[train]'") from error
    installed = [str(name) for name in get_available_trackers()]
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise UserError(f"unknown tracker {name!r}; expected one of {', '.join(LOGGER_TYPE_TO_CLASS)}")
        if name not in installed:
            raise UserError(
                f"tracker {name} is not installed; pip install {name}, or drop it from loop.trackers"
            )


def _start_trackers(names: list[str], run: Path, settings: dict[str, Any]) -> Any:
    from accelerate import Accelerator  # optional: only for loop.trackers

    accelerator = Accelerator(log_with=names, project_dir=str(run), cpu=True)
    # Settings that are not numbers become text, which every tracker accepts.
    plain = {name: v if isinstance(v, int | float) else str(v) for name, v in flatten(settings).items()}
    accelerator.init_trackers("pptrain", config=plain)
    return accelerator
