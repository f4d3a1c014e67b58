"""The device that a network runs on."""

from __future__ import annotations

import torch

from ppcore.errors import UserError


def choose_device(name: str) -> torch.device:
    """The device called `auto`, `cpu`, `cuda` or `cuda:N`; auto is CUDA if there is a GPU.

    Raises:
        UserError: an unknown name, or CUDA without a GPU.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device {name} needs a CUDA GPU, and PyTorch finds none; use --device cpu")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise UserError(f"unknown device {name!r}; expected auto, cpu, cuda or cuda:N") from error


def has_bf16(device: torch.device) -> bool:
    """Whether the device has instructions that multiply bfloat16; where it is emulated, bfloat16 is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
