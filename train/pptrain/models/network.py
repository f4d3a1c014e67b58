"""The network as methods see it (images in [0, 1] -> logits), the teacher, memory layout and batch norm."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ppcore.classifiers import Classifier, ClassifierSpec, run_with_features
from ppcore.errors import UserError
from pptrain.models.graphs import Graphs


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


class Network(nn.Module):
    """The network of a classifier with its normalisation.

    Args:
        net: normalised images -> logits.
        spec: provides the mean and the standard deviation.

    Attributes:
        source_head: second head over the source classes, for methods that predict conditions.
        graphs: CUDA graphs of its passes; None runs without them.
    """

    _mean: Tensor
    _std: Tensor

    def __init__(self, net: nn.Module, spec: ClassifierSpec) -> None:
        super().__init__()
        self.net = net
        self.source_head: nn.Linear | None = None
        self.graphs: Graphs | None = None
        self.register_buffer("_mean", torch.tensor(spec.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(spec.std).view(1, -1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """float (B, C, R, R) in [0, 1] -> logits (B, K)."""
        if self.graphs is not None and self.graphs.take_first(self):
            logits: Tensor = self.graphs.run("logits", self._logits, self, x)
            return logits
        return self._logits(x)

    def _logits(self, x: Tensor) -> Tensor:
        return self.net(self._normalised(x))

    def _normalised(self, x: Tensor) -> Tensor:
        return (x - self._mean) / self._std

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """float (B, C, R, R) -> (features (B, D), the input of the head; logits (B, K)).

        The network runs uncompiled here, because a compiled one would ignore the hooks.
        """
        with torch.compiler.set_stance("force_eager"):
            return run_with_features(self.net, self._normalised(x))

    def with_source(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """float (B, C, R, R) -> (logits (B, K) of the target, logits (B, K_s) of the source head on the same features)."""
        if self.graphs is not None and self.graphs.take_first(self):
            both: tuple[Tensor, Tensor] = self.graphs.run("with source", self._with_source, self, x)
            return both
        return self._with_source(x)

    def _with_source(self, x: Tensor) -> tuple[Tensor, Tensor]:
        assert self.source_head is not None
        features, logits = self.features(x)
        return logits, self.source_head(features)


_CHANNEL_BLOCK = 16  # the largest block of channels in oneDNN's convolutions


def choose_layout(net: nn.Module, device: torch.device, channels_last: bool) -> torch.memory_format:
    """The memory layout of images and weights: channels last if `channels_last` is set and the network is safe with it.

    On a CPU, a network with a strided 1x1 convolution of few input channels stays contiguous: in channels last, oneDNN writes past
    its workspace when it computes the weight gradient of such a convolution (github.com/uxlfoundation/oneDNN issue 6035; torch
    2.15 on AVX2 crashed or gave wrong gradients).
    """
    if not channels_last or (device.type == "cpu" and any(_overruns(m) for m in net.modules())):
        return torch.contiguous_format
    return torch.channels_last


def has_grouped_convolutions(net: nn.Module) -> bool:
    """Whether a convolution of `net` works on groups of channels, as depthwise convolutions do."""
    convolutions = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return any(isinstance(m, convolutions) and m.groups > 1 for m in net.modules())


def _overruns(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and max(module.stride) > 1
        and module.in_channels // module.groups < _CHANNEL_BLOCK
    )


class Teacher(nn.Module):
    """A trained classifier in eval mode. It gets the whole views of the student, and has its own normalisation and size."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        # A view is a crop: the teacher must not cut it again.
        self.classifier = classifier.whole().eval().requires_grad_(False)

    def train(self, mode: bool = True) -> Teacher:  # always in eval mode
        return self

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """float (B, C, R, R) in [0, 1] -> float32 logits (B, K)."""
        return self.classifier(x * 255.0)


@contextmanager
def untracked(model: nn.Module) -> Iterator[None]:
    """Inside, batch norm layers in train mode normalise with the current batch and do not update their running statistics."""
    layers = [
        m for m in model.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats
    ]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


_USUAL_MOMENTUM, _WINDOWS = 0.1, 10  # PyTorch's default; lengths of the running average in a run


def follow_run(net: nn.Module, passes: int) -> None:
    """Let the running statistics of batch norm follow a run of `passes` training passes, in place.

    MNASNet, some EfficientNets and MobileNetV3 have a momentum of 0.0003 to 0.01, for runs of 100,000 steps and more. At the end of a
    short run their running statistics would still be the initial ones, and the saved network would classify by chance.
    """
    least = min(_USUAL_MOMENTUM, _WINDOWS / passes)
    for module in net.modules():
        if isinstance(module, _BatchNorm) and module.momentum is not None:
            module.momentum = max(module.momentum, least)


def synchronise_batch_norm(net: nn.Module, arch: str) -> nn.Module:
    """`net` with every batch norm layer replaced by `torch.nn.SyncBatchNorm`; the names of its parameters stay the same.

    Raises:
        UserError: a layer computes more than batch norm (timm's BatchNormAct2d also applies an activation), which
            SyncBatchNorm would drop.
    """
    for module in net.modules():
        if isinstance(module, _BatchNorm) and type(module).forward is not _BatchNorm.forward:
            raise UserError(
                f"model.sync_batch_norm cannot be used with {arch}: torch.nn.SyncBatchNorm cannot replace its "
                f"{type(module).__name__} layers; set model.sync_batch_norm=false"
            )
    synchronised: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    return synchronised
