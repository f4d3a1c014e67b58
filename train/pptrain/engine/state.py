"""Everything that the next step depends on, and the checkpoint that stores it: one file, written atomically."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ppcore.classifiers import Classifier, ClassifierSpec
from ppcore.errors import UserError
from ppcore.storage import Store
from pptrain.engine.prepare import PreparedRun
from pptrain.methods import Context, Method
from pptrain.models import Ema, Network, Teacher, choose_layout, make_optimizer

_FOLDER, _LAST = "checkpoint", "last.pt"


@dataclass
class TrainState:
    """What changes from step to step.

    Attributes:
        network: on its device, in the memory layout of the run.
        ema: the averaged weights, which are evaluated and saved.
        step: number of finished optimiser steps.
        seconds: time of training, without interruptions.
        best: the best validation so far: `rank` [accuracy, -loss], `step` and `weights`; empty before the first validation.
        stale: validations since the best one.
    """

    network: Network
    ema: Ema
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    method: Method
    step: int = 0
    seconds: float = 0.0
    best: dict[str, Any] = field(default_factory=dict)
    stale: int = 0

    def classifier(self, spec: ClassifierSpec) -> Classifier:
        """The averaged weights as a classifier in eval mode."""
        assert isinstance(self.ema.model, Network)
        net = self.ema.model.net
        return Classifier(net, spec).to(next(net.parameters()).device).eval()

    def keep_if_best(self, accuracy: float, loss: float) -> None:
        """Keep the averaged weights if this validation is the best so far: by higher accuracy, then by lower loss."""
        rank = [accuracy, -loss]
        if self.best and rank <= self.best["rank"]:
            self.stale += 1
            return
        weights = self.ema.model.state_dict()
        # Changed in place, so that the versions of the modules stay with it.
        weights.update({n: t.detach().to("cpu", copy=True) for n, t in weights.items()})
        self.best = {"rank": rank, "step": self.step, "weights": weights}
        self.stale = 0

    def take_best(self) -> int:
        """Replace the averaged weights by the best ones by validation; returns the step that they are from."""
        if not self.best:
            return self.step
        self.ema.model.load_state_dict(self.best["weights"])
        return int(self.best["step"])

    def is_finite(self) -> bool:
        """Whether every weight is a finite number; waits for the device."""
        return all(bool(p.isfinite().all()) for p in self.network.parameters())

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint stores: tensors, numbers, strings, lists and dicts of them. All processes hold the same values."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "model": self.network.state_dict(),
            "ema": self.ema.model.state_dict() if self.ema.decay else {},
            "ema_steps": self.ema.steps,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "method": self.method.state_dict(),
            "best": self.best,
            "stale": self.stale,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.step, self.seconds = int(state["step"]), float(state["seconds"])
        self.network.load_state_dict(state["model"])
        if self.ema.decay:
            self.ema.model.load_state_dict(state["ema"])
        self.ema.steps = int(state["ema_steps"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.method.load_state_dict(state["method"])
        self.best, self.stale = state["best"], int(state["stale"])


def make_state(prepared: PreparedRun, device: torch.device) -> TrainState:
    """The state before the first step."""
    config = prepared.config
    layout = choose_layout(prepared.net, device, config.loop.channels_last)
    network = Network(prepared.net, prepared.spec).to(device, memory_format=layout)  # type: ignore[call-overload]
    prepared.method.setup(
        Context(
            num_classes=prepared.spec.num_classes,
            model=network,
            batch_norm=config.method.batch_norm,
            unlabeled_samples=prepared.unlabeled.samples if prepared.unlabeled else 0,
            teacher=Teacher(prepared.teacher).to(device) if prepared.teacher else None,
            source=None if prepared.source is None else prepared.source.to(device),
        )
    )
    return TrainState(
        network=network,
        ema=Ema(network, config.loop.ema),
        optimizer=make_optimizer(network, config.optim),
        scaler=torch.amp.GradScaler(device.type, enabled=config.loop.amp == "fp16"),
        method=prepared.method,
    )


def checkpoint_path(run: Path) -> Path:
    """The checkpoint file of a run."""
    return run / _FOLDER / _LAST


def save_checkpoint(run: Path, state: TrainState) -> None:
    """Write `state` as the checkpoint of the run, in place of the one before."""
    buffer = io.BytesIO()
    torch.save(state.state_dict(), buffer)
    Store(run / _FOLDER).write_atomic(_LAST, buffer.getvalue())


def load_checkpoint(run: Path, state: TrainState) -> bool:
    """Restore `state` from the checkpoint of the run; returns False if there is none.

    Raises:
        UserError: the checkpoint is damaged.
    """
    path = checkpoint_path(run)
    if not path.exists():
        return False
    try:
        state.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch raises many types for a damaged file
        raise UserError(
            f"the checkpoint {path} is damaged, or another version wrote it; delete it to start the run again"
        ) from error
    return True


def drop_checkpoint(run: Path) -> None:
    """Remove the checkpoint of a finished run."""
    Store(run).delete(f"{_FOLDER}/{_LAST}")
    folder = run / _FOLDER
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
