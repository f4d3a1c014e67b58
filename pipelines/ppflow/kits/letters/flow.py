"""The generator: a class-conditional rectified flow (Liu et al. 2023, Lipman et al. 2023) in a stock diffusers UNet.

Images in [-1, 1], 32x32x1, are folded to 16x16x4 (`patch` 2), where a network costs a quarter as much. Noise level s in [0, 1],
x_s = (1 - s) x + s n, the network predicts the velocity v = n - x. The last row of the class table is the null label.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ppcore.seeds import derive
from ppflow.kits.letters.fonts import CLASS_NAMES

NUM_CLASSES = len(CLASS_NAMES)
PATCH = 2
TIME_SCALE = 1000.0  # the scheduler's num_train_timesteps: the network is given s * 1000


def build_unet(widths: tuple[int, ...] = (32, 64, 128)) -> Any:
    """The untrained network, a `UNet2DModel` of 2.6 M parameters."""
    from diffusers import UNet2DModel  # optional: only for building the kit

    return UNet2DModel(
        sample_size=16,
        in_channels=PATCH * PATCH,
        out_channels=PATCH * PATCH,
        block_out_channels=widths,
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * len(widths),
        up_block_types=("UpBlock2D",) * len(widths),
        add_attention=False,
        norm_num_groups=8,
        resnet_time_scale_shift="scale_shift",
        num_class_embeds=NUM_CLASSES + 1,
    )


def to_flow(pictures: torch.Tensor) -> torch.Tensor:
    """uint8 (B, 32, 32) -> float32 (B, 4, 16, 16) in [-1, 1]."""
    return F.pixel_unshuffle(pictures.float().div(127.5).sub(1.0).unsqueeze(1), PATCH)


def velocity(net: nn.Module, x: torch.Tensor, s: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """One evaluation of the network."""
    return net(x, s * TIME_SCALE, class_labels=label).sample


def guided(
    net: nn.Module, x: torch.Tensor, s: torch.Tensor, label: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """v_c + w (v_c - v_null), classifier-free guidance (Ho & Salimans 2022); `weight` is (B,)."""
    both = velocity(
        net, torch.cat([x, x]), torch.cat([s, s]), torch.cat([label, torch.full_like(label, NUM_CLASSES)])
    )
    conditional, null = both.chunk(2)
    return conditional + weight.view(-1, 1, 1, 1) * (conditional - null)


class Averaged:
    """Exponential moving average of a network's weights, with the usual warm-up of the decay."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.net = copy.deepcopy(net).eval().requires_grad_(False)
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(list(self.net.parameters()), [p.detach() for p in net.parameters()], 1 - decay)


def batches(count: int, batch: int, rng: torch.Generator) -> Iterator[torch.Tensor]:
    """Endless int64 (batch,) positions, an epoch at a time."""
    while True:
        order = torch.randperm(count, generator=rng)
        yield from order[: count // batch * batch].view(-1, batch)


def train_flow(
    pictures: np.ndarray,
    labels: np.ndarray,
    steps: int,
    *,
    net: nn.Module | None = None,
    batch: int = 128,
    lr: float = 1.5e-3,
    drop: float = 0.1,
    seed: int = 0,
    snapshot: Path | None = None,
) -> nn.Module:
    """Train the base flow on uint8 (N, 32, 32) and uint8 (N,); returns the averaged network.

    Args:
        drop: share of labels replaced by the null label.
        snapshot: where the averaged weights go every 500 steps, so that they can be looked at.
    """
    torch.manual_seed(derive(seed, "flow") % 2**32)
    rng = torch.Generator().manual_seed(derive(seed, "flow-data") % 2**32)
    net = net or build_unet()
    average = Averaged(net, 0.999)
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=1e-2)
    x_all, y_all = torch.from_numpy(pictures), torch.from_numpy(labels).long()
    positions = batches(len(x_all), batch, rng)
    start, running = time.perf_counter(), 0.0
    for step in range(steps):
        set_rate(optimizer, lr, step, steps)
        rows = next(positions)
        x, y = to_flow(x_all[rows]), y_all[rows]
        y = torch.where(torch.rand(len(y)) < drop, NUM_CLASSES, y)
        noise, s = torch.randn_like(x), torch.sigmoid(torch.randn(len(x)))  # logit-normal (Esser et al. 2024)
        level = s.view(-1, 1, 1, 1)
        with torch.autocast("cpu", torch.bfloat16):
            predicted = velocity(net, (1 - level) * x + level * noise, s, y)
        loss = F.mse_loss(predicted.float(), noise - x)
        apply(optimizer, net, loss)
        average.update(net)
        running += loss.item()
        if (step + 1) % 100 == 0:
            rate = (step + 1) * batch / (time.perf_counter() - start)
            print(f"flow step {step + 1}/{steps} loss {running / 100:.4f} {rate:.0f} images/s", flush=True)
            running = 0.0
        if snapshot is not None and (step + 1) % 500 == 0:
            torch.save(average.net.state_dict(), snapshot)
    return average.net


def bake_guidance(
    base: nn.Module,
    pictures: np.ndarray,
    labels: np.ndarray,
    steps: int,
    *,
    weight: float,
    batch: int = 128,
    lr: float = 4e-4,
    seed: int = 0,
) -> nn.Module:
    """Teach the network its own guided velocity, so that a guided step costs one evaluation (Meng et al. 2023, stage 1).

    Half of the noise levels are those that a four-step sampler visits. Guidance is taught at 0.4 < s < 0.9 only: nearer to
    noise it costs variety, nearer to the picture it changes nothing (Kynkäänniemi et al. 2024).
    """
    torch.manual_seed(derive(seed, "bake") % 2**32)
    rng = torch.Generator().manual_seed(derive(seed, "bake-data") % 2**32)
    net = copy.deepcopy(base).train().requires_grad_(True)
    average = Averaged(net, 0.99)
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=1e-2)
    x_all, y_all = torch.from_numpy(pictures), torch.from_numpy(labels).long()
    positions = batches(len(x_all), batch, rng)
    running = 0.0
    for step in range(steps):
        set_rate(optimizer, lr, step, steps, warmup=30)
        rows = next(positions)
        x, y = to_flow(x_all[rows]), y_all[rows]
        visited = torch.randint(1, 5, (batch,)) / 4
        s = torch.where(torch.rand(batch) < 0.5, visited, torch.sigmoid(torch.randn(batch)))
        level = s.view(-1, 1, 1, 1)
        noisy = (1 - level) * x + level * torch.randn_like(x)
        strength = weight * ((s > 0.4) & (s < 0.9))
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                target = guided(base, noisy, s, y, strength)
            predicted = velocity(net, noisy, s, y)
        loss = F.mse_loss(predicted.float(), target.float())
        apply(optimizer, net, loss)
        average.update(net)
        running += loss.item()
        if (step + 1) % 100 == 0:
            print(f"guidance step {step + 1}/{steps} loss {running / 100:.4f}", flush=True)
            running = 0.0
    return average.net


def set_rate(optimizer: torch.optim.Optimizer, lr: float, step: int, steps: int, warmup: int = 100) -> None:
    """Linear warm-up, then half a cosine to zero."""
    share = min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * step / steps))
    for group in optimizer.param_groups:
        group["lr"] = lr * share


def apply(optimizer: torch.optim.Optimizer, net: nn.Module, loss: torch.Tensor) -> None:
    """One clipped gradient step."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
