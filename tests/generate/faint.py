"""A generator that paints its condition more or less faintly, by the seed, and a classifier with a linear head that reads it:
samples of graded confidence, without a network."""

from __future__ import annotations

from pathlib import Path

import torch
import typer
from dummy import SIDE, Painter
from torch import nn

from ppcore.classifiers import ClassifierSpec, save_classifier
from ppcore.errors import UserError
from ppgen.cli.commands import app

K = 10


class Faint(Painter):
    """A :class:`dummy.Painter` whose first row is the condition times a number in [0, 1) drawn from the seed."""

    def sample(self, condition: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
        strength = [torch.rand(1, generator=torch.Generator().manual_seed(int(s))) for s in seeds]
        return super().sample(condition * torch.stack(strength), seeds)


def build(num_classes: int = K) -> Faint:
    """The `module:callable` of the tests."""
    return Faint(num_classes)


class Head(nn.Module):
    """Features are the painted row in [0, 1], logits ten times that."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.fc = nn.Linear(num_classes, num_classes)
        nn.init.eye_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (B, 1, 16, 16) in [-1, 1] -> (B, K)
        return 10 * self.fc((x[:, 0, 0, : self.num_classes] + 1) / 2)


def make_head(folder: Path, num_classes: int = K) -> Path:
    """A model directory of :class:`Head`."""
    names = tuple(f"class {i}" for i in range(num_classes))
    save_classifier(
        folder, Head(num_classes), ClassifierSpec("faint:Head", names, channels=1, resolution=SIDE)
    )
    return folder


def call(*args: str) -> None:
    """The command in this process; UserError and typer.Exit pass through."""
    status = app(args=list(args), standalone_mode=False)
    if status:
        raise typer.Exit(status)


def sentence(error: UserError) -> str:
    """The message, proved to be one sentence on one line."""
    assert "\n" not in str(error)
    return str(error)
