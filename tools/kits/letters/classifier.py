"""Training of letter classifiers: the kit's own, and the independent ones that judge the generator."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ppcore.classifiers import ClassifierSpec, build, save_classifier
from ppcore.seeds import derive
from tools.kits.flow import Averaged, apply, batches, set_rate
from tools.kits.letters.fonts import CLASS_NAMES

MEAN, STD = 0.2, 0.34  # of the rendered pictures, scaled to [0, 1]
NUM_CLASSES = len(CLASS_NAMES)


class PlainNet(nn.Module):
    """Judge of another architecture, after LeNet-5 and VGG: no residuals, max pooling, a hidden layer; 0.4 M parameters."""

    def __init__(self, num_classes: int = NUM_CLASSES, widths: tuple[int, ...] = (32, 64, 128)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before, kernel = 1, 5
        for width in widths:
            layers += [nn.Conv2d(before, width, kernel, 1, kernel // 2, bias=False), nn.BatchNorm2d(width)]
            layers += [nn.LeakyReLU(0.1), nn.MaxPool2d(2)]
            before, kernel = width, 3
        self.features = nn.Sequential(*layers)
        hidden = [nn.Linear(before * 16, 128), nn.LeakyReLU(0.1), nn.Dropout(0.3)]
        self.head = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(128, num_classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (B, 1, 32, 32) -> (B, K)
        return self.head(self.features(x))


def normalise(pictures: torch.Tensor) -> torch.Tensor:
    """uint8 (B, 32, 32) -> float32 (B, 1, 32, 32), as the kit's ClassifierSpec says."""
    return (pictures.float().unsqueeze(1) / 255 - MEAN) / STD


def jitter(x: torch.Tensor) -> torch.Tensor:
    """Light affine jitter of float (B, 1, 32, 32); the pictures already vary a great deal."""
    count = len(x)
    theta = torch.eye(2, 3).repeat(count, 1, 1)
    theta[:, :, :2] += torch.randn(count, 2, 2) * 0.05
    theta[:, :, 2] += torch.randn(count, 2) * 0.05
    grid = F.affine_grid(theta, [count, 1, 32, 32], align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def train_classifier(
    net: nn.Module,
    pictures: np.ndarray,
    labels: np.ndarray,
    steps: int,
    *,
    batch: int = 128,
    lr: float = 3e-3,
    smoothing: float = 0.05,
    seed: int = 0,
) -> nn.Module:
    """Train on uint8 (N, 32, 32) and integer labels (N,): AdamW, cosine, averaged weights; returns the averaged network."""
    torch.manual_seed(derive(seed, "classifier") % 2**32)
    rng = torch.Generator().manual_seed(derive(seed, "classifier-data") % 2**32)
    average = Averaged(net, 0.995)
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=2e-2)
    x_all, y_all = torch.from_numpy(pictures), torch.from_numpy(labels.astype(np.int64))
    positions = batches(len(x_all), batch, rng)
    start = time.perf_counter()
    net.train()
    for step in range(steps):
        set_rate(optimizer, lr, step, steps)
        rows = next(positions)
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(jitter(normalise(x_all[rows])))
        apply(optimizer, net, F.cross_entropy(logits.float(), y_all[rows], label_smoothing=smoothing))
        average.update(net)
        if (step + 1) % 500 == 0:
            rate = (step + 1) * batch / (time.perf_counter() - start)
            print(f"classifier step {step + 1}/{steps} {rate:.0f} images/s", flush=True)
    for kept, buffer in zip(average.net.buffers(), net.buffers(), strict=True):
        kept.copy_(buffer)  # running statistics are averages already
    return average.net


@torch.inference_mode()
def predict(net: nn.Module, pictures: np.ndarray | torch.Tensor, batch: int = 500) -> torch.Tensor:
    """Logits float32 (N, K) of uint8 (N, 32, 32)."""
    x = torch.as_tensor(pictures)
    return torch.cat([net(normalise(part)).float() for part in x.split(batch)])


def accuracy(net: nn.Module, pictures: np.ndarray | torch.Tensor, labels: np.ndarray) -> float:
    """Share of right answers."""
    return float(
        (predict(net, pictures).argmax(1) == torch.from_numpy(labels.astype(np.int64))).float().mean()
    )


def new_small() -> nn.Module:
    """The kit's architecture, untrained."""
    return build("small", NUM_CLASSES, 1)


def save(folder: Path, net: nn.Module) -> None:
    """Write the classifier in the layout of `ppcore.classifiers`."""
    spec = ClassifierSpec("small", CLASS_NAMES, channels=1, resolution=32, mean=(MEAN,), std=(STD,))
    save_classifier(folder, net.float(), spec)
