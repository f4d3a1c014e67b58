"""Data parallelism: who this process is, and averages over all processes.

Any launcher that sets RANK, WORLD_SIZE and MASTER_ADDR works: torchrun, accelerate launch, Ray Train.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pptrain.engine.parallel import Gradients, Mean, cut
from pptrain.models import choose_device


class ProcessGroup:
    """This process among those that train together.

    Args:
        device: `auto`, `cpu`, `cuda` or `cuda:N`; with several processes on one machine, each takes the GPU of its number.

    Raises:
        UserError: see :func:`pptrain.models.choose_device`.
    """

    def __init__(self, device: str = "auto") -> None:
        self.device = choose_device(device)
        self.world_size = int(os.environ.get("WORLD_SIZE", "1"))
        self._owned = False
        if dist.is_available() and dist.is_initialized():
            self.world_size = dist.get_world_size()
        elif self.world_size > 1:
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
            self._owned = True
        self.rank = dist.get_rank() if self.world_size > 1 else 0
        if self.device.type == "cuda" and self.world_size > 1 and self.device.index is None:
            self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(self.device)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace every floating-point tensor by its mean over the processes."""
        if self.world_size > 1:
            for bucket in cut(tensor for tensor in tensors if tensor.is_floating_point()):
                Mean(bucket).finish()

    def gradients(self, model: nn.Module) -> Gradients:
        """What averages the gradients of `model` during its backward passes."""
        return Gradients(model, self.world_size)

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Replace every tensor, on this process's device, by the first process's."""
        if self.world_size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def broadcast(self, value: Any) -> Any:
        """The first process's value, everywhere."""
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def barrier(self) -> None:
        """Return when every process has come here."""
        if self.world_size > 1:
            dist.barrier()

    def close(self) -> None:
        """Leave the process group, if it was formed here."""
        if self._owned:
            dist.destroy_process_group()
            self._owned = False
