"""Running sums of losses on the device: nothing in a training step waits for a number."""

from __future__ import annotations

import torch
from torch import Tensor


class LossAverages:
    """Sums named losses and remembers the first step whose loss was not a number.

    Attributes:
        sums: name -> () float32 on the device.
    """

    def __init__(self, device: torch.device) -> None:
        self.sums: dict[str, Tensor] = {}
        self._first_bad = torch.tensor(-1, device=device)

    def add(self, losses: dict[str, Tensor], step: int) -> None:
        """Take in the losses of one (micro-)batch of `step`."""
        for name, value in losses.items():
            value = value.detach().float()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        bad = ~torch.isfinite(losses["loss"].detach()) & (self._first_bad < 0)
        self._first_bad = torch.where(bad, torch.full_like(self._first_bad, step), self._first_bad)

    def take(self, count: int) -> dict[str, float]:
        """Means over `count` batches, and start anew; waits for the device."""
        means = {name: total.item() / max(count, 1) for name, total in self.sums.items()}
        self.sums = {}
        return means

    def first_bad_step(self) -> int | None:
        """The first step with a loss that is no finite number, or None; waits for the device."""
        step = int(self._first_bad)
        return None if step < 0 else step
