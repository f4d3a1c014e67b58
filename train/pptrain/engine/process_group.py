"""The processes that train together: which one this is, and what they exchange beside gradients.

Any launcher that sets RANK, WORLD_SIZE and MASTER_ADDR works: torchrun, accelerate launch, Ray Train.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pptrain.models import choose_device

_LONGEST_WAIT = timedelta(days=7)  # the first process may evaluate for longer than the group's timeout


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
        if self.world_size > 1:
            self._waiting: Any = dist.new_group(backend="gloo", timeout=_LONGEST_WAIT)
        if self.device.type == "cuda" and self.world_size > 1 and self.device.index is None:
            self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(self.device)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace every floating-point tensor by its mean over the processes."""
        found = [tensor for tensor in tensors if tensor.is_floating_point()]
        if self.world_size == 1 or not found:
            return
        means = torch.cat([tensor.detach().flatten() for tensor in found])  # one message for all
        dist.all_reduce(means)
        means /= self.world_size
        with torch.no_grad():
            for tensor, mean in zip(found, means.split([t.numel() for t in found]), strict=True):
                tensor.copy_(mean.view_as(tensor))

    def least(self, tensor: Tensor) -> None:
        """Replace `tensor` by its minimum over the processes."""
        if self.world_size > 1:
            dist.all_reduce(tensor, dist.ReduceOp.MIN)

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Replace every tensor, which must be on this process's device, by the first process's."""
        if self.world_size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def broadcast(self, value: Any) -> Any:
        """Return the first process's `value` in every process."""
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def barrier(self) -> None:
        """Wait until every process has called this, for days if need be; a process that dies ends the wait with an error."""
        if self.world_size > 1:
            dist.barrier(self._waiting)

    def close(self) -> None:
        """Leave the process group if this object formed it; call it once."""
        if self.world_size > 1:
            dist.destroy_process_group(None if self._owned else self._waiting)
