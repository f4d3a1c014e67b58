"""The generator: a class-conditional rectified flow (Liu et al. 2023, Lipman et al. 2023) in a stock diffusers UNet.

Images in [-1, 1], 32x32xC, are folded to 16x16x4C (`patch` 2), where a network costs a quarter as much. Noise level s in [0, 1],
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
from pptrain.models import has_bf16

PATCH = 2
TIME_SCALE = 1000.0  # the scheduler's num_train_timesteps: the network is given s * 1000


def build_unet(num_classes: int, channels: int = 1, widths: tuple[int, ...] = (32, 64, 128)) -> Any:
    """The untrained network, a `UNet2DModel`: 2.6 M parameters at the widths of the letters kit."""
    from diffusers import UNet2DModel  # optional: only for building the kit

    return UNet2DModel(
        sample_size=16,
        in_channels=channels * PATCH**2,
        out_channels=channels * PATCH**2,
        block_out_channels=widths,
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * len(widths),
        up_block_types=("UpBlock2D",) * len(widths),
        add_attention=False,
        norm_num_groups=8,
        resnet_time_scale_shift="scale_shift",
        num_class_embeds=num_classes + 1,
    )


def to_flow(pictures: torch.Tensor) -> torch.Tensor:
    """uint8 (B, 32, 32) or (B, 32, 32, C) -> float32 (B, 4 C, 16, 16) in [-1, 1]."""
    planes = pictures.unsqueeze(1) if pictures.ndim == 3 else pictures.permute(0, 3, 1, 2)
    return F.pixel_unshuffle(planes.float().div(127.5).sub(1.0), PATCH)


def null_label(net: Any) -> int:
    """The null label, which stands for no class: the last row of the class table."""
    return int(net.config.num_class_embeds) - 1


def velocity(net: nn.Module, x: torch.Tensor, s: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """The velocity that the network predicts, (B, 4 C, 16, 16), for noise levels s (B,) and labels int64 (B,)."""
    return net(x, s * TIME_SCALE, class_labels=label).sample


def guided(
    net: nn.Module, x: torch.Tensor, s: torch.Tensor, label: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """v_c + w (v_c - v_null), classifier-free guidance (Ho & Salimans 2022); `weight` is (B,)."""
    null = torch.full_like(label, null_label(net))
    both = velocity(net, torch.cat([x, x]), torch.cat([s, s]), torch.cat([label, null]))
    conditional, unconditional = both.chunk(2)
    return conditional + weight.view(-1, 1, 1, 1) * (conditional - unconditional)


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
    """Endless random int64 (batch,) positions, epoch by epoch. If there are fewer images than a batch, a batch is all of them."""
    batch = min(batch, count)
    while True:
        order = torch.randperm(count, generator=rng)
        yield from order[: count // batch * batch].view(-1, batch)


def train_flow(
    pictures: np.ndarray,
    labels: np.ndarray,
    steps: int,
    *,
    net: Any,
    batch: int = 128,
    lr: float = 1.5e-3,
    drop: float = 0.1,
    flip: bool = False,
    seed: int = 0,
    checkpoint: Path | None = None,
    keep_every: int = 500,
    length: int | None = None,
) -> nn.Module:
    """Train the base flow on uint8 (N, 32, 32) or (N, 32, 32, C) and labels (N,), on the device of `net`; returns the averaged network.

    Args:
        drop: share of labels replaced by the null label.
        flip: mirror half of the images.
        checkpoint: file written every `keep_every` steps. If it exists, training resumes from it with the same result as without a stop.
        length: steps of the whole schedule, if `steps` is only a part of it.
    """
    on = next(net.parameters()).device
    average, optimizer = _prepare(net, "flow", seed, lr=lr, decay=0.999)
    x_all, y_all = torch.from_numpy(pictures).to(on), torch.from_numpy(labels).long().to(on)
    positions = _positions(len(x_all), "flow", seed, batch)
    first = _resume(checkpoint, net, average, optimizer)
    for _ in range(first):
        next(positions)
    start, running = time.perf_counter(), torch.zeros((), device=on)
    for step in range(first, steps):
        set_rate(optimizer, lr, step, length or steps)
        rows = next(positions).to(on, non_blocking=True)
        x, y = to_flow(x_all[rows]), y_all[rows]
        if flip:
            x = torch.where(torch.rand(len(x), 1, 1, 1, device=on) < 0.5, mirrored(x), x)
        y = torch.where(torch.rand(len(y), device=on) < drop, null_label(net), y)
        noise = torch.randn_like(x)
        s = torch.sigmoid(torch.randn(len(x), device=on))  # logit-normal (Esser et al. 2024)
        level = s.view(-1, 1, 1, 1)
        with torch.autocast(on.type, torch.bfloat16, enabled=has_bf16(on)):
            predicted = velocity(net, (1 - level) * x + level * noise, s, y)
        loss = F.mse_loss(predicted.float(), noise - x)
        apply(optimizer, net, loss)
        average.update(net)
        running += loss.detach()
        if (step + 1) % 100 == 0:
            mean = running.item() / 100  # waits for the device
            rate = (step + 1 - first) * batch / (time.perf_counter() - start)
            print(f"flow step {step + 1}/{steps} loss {mean:.4f} {rate:.0f} images/s", flush=True)
            running.zero_()
        if checkpoint is not None and (step + 1) % keep_every == 0:
            _keep(checkpoint, step + 1, net, average, optimizer)
    return average.net


def _prepare(
    net: nn.Module, name: str, seed: int, *, lr: float, decay: float
) -> tuple[Averaged, torch.optim.Optimizer]:
    """Seed the random numbers; returns the averaged network and the optimiser."""
    torch.manual_seed(derive(seed, name) % 2**32)
    return Averaged(net, decay), torch.optim.AdamW(
        net.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=1e-2
    )


def _positions(count: int, name: str, seed: int, batch: int) -> Iterator[torch.Tensor]:
    return batches(count, batch, torch.Generator().manual_seed(derive(seed, f"{name}-data") % 2**32))


def mirrored(x: torch.Tensor) -> torch.Tensor:
    """Folded images (B, 4 C, 16, 16) with left and right exchanged."""
    return F.pixel_unshuffle(F.pixel_shuffle(x, PATCH).flip(-1), PATCH)


def _keep(
    checkpoint: Path, step: int, net: nn.Module, average: Averaged, optimizer: torch.optim.Optimizer
) -> None:
    state = {
        "step": step,
        "net": net.state_dict(),
        "average": average.net.state_dict(),
        "updates": average.updates,
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
        "device_random": torch.cuda.get_rng_state_all(),
    }
    temporary = checkpoint.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(checkpoint)


def _resume(
    checkpoint: Path | None, net: nn.Module, average: Averaged, optimizer: torch.optim.Optimizer
) -> int:
    """Restore the checkpoint if it exists; returns the number of finished steps."""
    if checkpoint is None or not checkpoint.exists():
        return 0
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    net.load_state_dict(state["net"])
    average.net.load_state_dict(state["average"])
    average.updates = state["updates"]
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state.get("device_random", []))
    return int(state["step"])


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
    on = next(base.parameters()).device
    net = copy.deepcopy(base).train().requires_grad_(True)
    average, optimizer = _prepare(net, "bake", seed, lr=lr, decay=0.99)
    x_all, y_all = torch.from_numpy(pictures).to(on), torch.from_numpy(labels).long().to(on)
    positions = _positions(len(x_all), "bake", seed, batch)
    running = torch.zeros((), device=on)
    for step in range(steps):
        set_rate(optimizer, lr, step, steps, warmup=30)
        rows = next(positions).to(on, non_blocking=True)
        x, y = to_flow(x_all[rows]), y_all[rows]
        visited = torch.randint(1, 5, (len(x),), device=on) / 4
        drawn = torch.sigmoid(torch.randn(len(x), device=on))
        s = torch.where(torch.rand(len(x), device=on) < 0.5, visited, drawn)
        level = s.view(-1, 1, 1, 1)
        noisy = (1 - level) * x + level * torch.randn_like(x)
        strength = weight * ((s > 0.4) & (s < 0.9))
        with torch.autocast(on.type, torch.bfloat16, enabled=has_bf16(on)):
            with torch.no_grad():
                target = guided(base, noisy, s, y, strength)
            predicted = velocity(net, noisy, s, y)
        loss = F.mse_loss(predicted.float(), target.float())
        apply(optimizer, net, loss)
        average.update(net)
        running += loss.detach()
        if (step + 1) % 100 == 0:
            print(f"guidance step {step + 1}/{steps} loss {running.item() / 100:.4f}", flush=True)
            running.zero_()
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
