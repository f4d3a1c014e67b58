"""Data parallelism: who this process is, and averages over all processes.

Gradients are averaged after the backward pass in a few flat buckets and not by DistributedDataParallel, because a semi-supervised step
runs the network several times with batch norm in different modes, which its hooks do not allow. Any launcher that sets RANK,
WORLD_SIZE and MASTER_ADDR works: torchrun, accelerate launch, Ray Train.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ppcore.errors import UserError

_BUCKET_BYTES = 64 << 20


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies in bfloat16 by itself; emulated, it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


class Ranks:
    """This process among those that train together.

    Args:
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        UserError: CUDA asked for and not there.
    """

    def __init__(self, device: str = "auto") -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise UserError(f"device {device} was asked for but no CUDA device is there; use --device cpu")
        try:
            self.device = torch.device(device)
        except RuntimeError as error:
            raise UserError(f"unknown device {device!r}; expected auto, cpu, cuda or cuda:N") from error
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self._owned = False
        if dist.is_available() and dist.is_initialized():
            self.world = dist.get_world_size()
        elif self.world > 1:
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
            self._owned = True
        self.rank = dist.get_rank() if self.world > 1 else 0
        if self.device.type == "cuda" and self.world > 1 and self.device.index is None:
            self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(self.device)

    @property
    def first(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace every floating-point tensor by its mean over the processes."""
        if self.world == 1:
            return
        bucket: list[Tensor] = []
        size = 0
        for tensor in tensors:
            if not tensor.is_floating_point():
                continue
            bucket.append(tensor)
            size += tensor.numel() * tensor.element_size()
            if size >= _BUCKET_BYTES:
                self._average_bucket(bucket)
                bucket, size = [], 0
        self._average_bucket(bucket)

    def _average_bucket(self, bucket: list[Tensor]) -> None:
        if not bucket:
            return
        flat = torch.cat([tensor.flatten() for tensor in bucket])
        dist.all_reduce(flat)
        flat /= self.world
        for tensor, mean in zip(bucket, flat.split([t.numel() for t in bucket]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def share(self, value: Any) -> Any:
        """The first process's value, everywhere."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.world > 1:
            dist.barrier()

    def close(self) -> None:
        """Leave the process group, if it was formed here."""
        if self._owned:
            dist.destroy_process_group()
            self._owned = False
