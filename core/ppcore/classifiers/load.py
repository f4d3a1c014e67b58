"""Image classifiers of any architecture: build one, wrap it with its preprocessing, write it, load it.

A model directory holds `config.json` (a :class:`ClassifierSpec`) and `model.safetensors`. pptrain writes it, ppgen and
pptrain read it; nothing in it is executable.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ppcore.classifiers.networks import OWN
from ppcore.errors import UserError
from ppcore.storage import Store

CONFIG, WEIGHTS = "config.json", "model.safetensors"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HEADS = ("fc", "classifier", "head", "heads")


@dataclass(frozen=True)
class ClassifierSpec:
    """Everything needed to rebuild a classifier and feed it.

    Attributes:
        arch: name for :func:`build`.
        class_names: the K class names; `class_ids` are stable identifiers (WordNet ids, say), empty when there are none.
        channels: 1 or 3, what the network takes.
        resolution: side in pixels the network is fed at.
        resize: side the shorter edge is resized to before the centre crop of `resolution`.
        mean, std: per channel, of images scaled to [0, 1].
    """

    arch: str
    class_names: tuple[str, ...]
    channels: int
    resolution: int
    resize: int = 0
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    class_ids: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> ClassifierSpec:
        """Parse config.json. Raises UserError."""
        try:
            fields: dict[str, Any] = json.loads(text)
            names = ("class_names", "mean", "std", "class_ids")
            fields.update({name: tuple(fields[name]) for name in names if name in fields})
            return cls(**fields)
        except (ValueError, TypeError, AttributeError) as error:
            raise UserError(
                f"{where} does not describe a classifier ({error}); expected the config.json that pptrain writes"
            ) from error


class Classifier(nn.Module):
    """A network with its preprocessing: uint8 images of any size in, float32 logits out."""

    _mean: torch.Tensor
    _std: torch.Tensor

    def __init__(self, net: nn.Module, spec: ClassifierSpec) -> None:
        super().__init__()
        self.net, self.spec = net, spec
        self.register_buffer("_mean", torch.tensor(spec.mean).view(1, -1, 1, 1) * 255.0, persistent=False)
        self.register_buffer("_std", torch.tensor(spec.std).view(1, -1, 1, 1) * 255.0, persistent=False)

    def preprocess(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (B, C, H, W) -> normalised float32 (B, C', R, R): channels converted, resized, centre cropped."""
        spec = self.spec
        x = images.float()
        if x.shape[1] != spec.channels:
            x = to_grey(x) if spec.channels == 1 else x.expand(-1, 3, -1, -1)
        side = spec.resize or spec.resolution
        height, width = x.shape[-2:]
        if min(height, width) != side or side != spec.resolution:
            scale = side / min(height, width)
            size = (max(side, round(height * scale)), max(side, round(width * scale)))
            x = F.interpolate(x, size=size, mode="bicubic", antialias=True).clamp_(0, 255)
        top, left = (x.shape[-2] - spec.resolution) // 2, (x.shape[-1] - spec.resolution) // 2
        x = x[..., top : top + spec.resolution, left : left + spec.resolution]
        return (x - self._mean) / self._std

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (B, C, H, W) -> float32 logits (B, K)."""
        return self.net(self.preprocess(images)).float()

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (B, C, H, W) -> float32 penultimate features (B, D): the input of the last linear layer."""
        return self.embed(images)[0]

    def embed(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """uint8 (B, C, H, W) -> (:meth:`features`, :meth:`forward`) in one pass."""
        _, head = find_head(self.net)
        caught: list[torch.Tensor] = []
        handle = head.register_forward_pre_hook(lambda _module, inputs: caught.append(inputs[0]))
        try:
            logits = self.net(self.preprocess(images))
        finally:
            handle.remove()
        return caught[-1].flatten(1).float(), logits.float()


def to_grey(images: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) -> (B, 1, H, W), ITU-R 601 luma like Pillow's `L`."""
    weights = images.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True)


def build(arch: str, num_classes: int, channels: int = 3) -> nn.Module:
    """An untrained network with `num_classes` outputs and `channels` input channels.

    Args:
        arch: `small` or `mobile` (ours, for about 32x32), a torchvision classification model, `timm/NAME`, or `module:callable`, which is
            called with those of num_classes, in_channels it accepts.

    Raises:
        UserError: unknown architecture, or one that does not take this number of channels.
    """
    if arch in OWN:
        return OWN[arch](num_classes, channels)
    if ":" in arch:
        return _build_custom(arch, num_classes, channels)
    if arch.startswith("timm/"):
        return _build_timm(arch.removeprefix("timm/"), num_classes, channels)
    import torchvision

    if arch in torchvision.models.list_models(module=torchvision.models):
        net = torchvision.models.get_model(arch, weights=None, num_classes=num_classes)
        if channels != 3:
            _swap_first_convolution(net, channels)
        return net
    raise UserError(
        f"unknown architecture {arch!r}; expected {' or '.join(OWN)}, a torchvision model such as resnet18, timm/NAME, or module:callable"
    )


def find_head(net: nn.Module) -> tuple[str, nn.Linear]:
    """(qualified name, module) of the last linear layer, the classification head.

    Raises:
        UserError: the network has none.
    """
    linear = [(name, module) for name, module in net.named_modules() if isinstance(module, nn.Linear)]
    named = [(name, module) for name, module in linear if name.split(".")[0] in _HEADS]
    if not linear:
        raise UserError(
            f"{type(net).__name__} has no linear layer to serve as classification head; end it in nn.Linear"
        )
    return (named or linear)[-1]


def save_classifier(folder: str | Path, net: nn.Module, spec: ClassifierSpec) -> None:
    """Write config.json and model.safetensors, each atomically, weights first."""
    from safetensors.torch import save

    store = Store(folder)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    store.write_atomic(WEIGHTS, save(weights))
    store.write_atomic(CONFIG, (json.dumps(asdict(spec), indent=1) + "\n").encode())


def load_classifier(spec: str, *, class_names: tuple[str, ...] = ()) -> Classifier:
    """A trained classifier in eval mode on the CPU.

    Args:
        spec: a model directory; a kit's name; a torchvision model name (its published weights); `timm/NAME` (likewise); or
            `ARCH@FILE`, a state dict in .safetensors, .pth or .pt form.
        class_names: names for `ARCH@FILE`, which carries none; numbers otherwise.

    Raises:
        UserError: cannot be had, or the weights do not fit.
    """
    if Path(spec).is_dir():
        return _load_directory(spec)
    if "@" in spec:
        arch, _, file = spec.partition("@")
        return _load_checkpoint(arch, file, class_names)
    from ppcore.kits import KITS, get_kit

    if spec in KITS:
        return load_classifier(get_kit(spec).classifier)
    return _load_published(spec)


def read_weights(file: str | Path) -> dict[str, torch.Tensor]:
    """A state dict from .safetensors, or from a pickle with `weights_only` (no code runs).

    Raises:
        UserError: missing, unreadable, or not a state dict.
    """
    path = Path(file)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"no weights at {path}; check the path") from error
    except Exception as error:  # pickle and safetensors raise many types for a damaged file
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path} cannot be read as weights ({reason}); expected safetensors or a plain state dict"
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise UserError(f"{path} holds no state dict; expected a mapping of names to tensors")
    return {str(name).removeprefix("module."): tensor for name, tensor in state.items()}


def load_weights(net: nn.Module, state: Mapping[str, torch.Tensor], where: str) -> None:
    """Strict load. Raises UserError naming what is missing, unexpected or of another shape."""
    own = net.state_dict()
    missing = sorted(set(own) - set(state))
    unexpected = sorted(set(state) - set(own))
    shapes = [name for name in own if name in state and own[name].shape != state[name].shape]
    if missing or unexpected or shapes:
        parts = [("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)]
        told = "; ".join(f"{len(names)} keys {what} such as {names[0]}" for what, names in parts if names)
        raise UserError(
            f"the weights in {where} do not fit {type(net).__name__}: {told}; use the architecture they were trained with"
        )
    net.load_state_dict({name: state[name] for name in own})


def _load_directory(folder: str) -> Classifier:
    path = Path(folder)
    if not (path / CONFIG).is_file() and (path / "model" / CONFIG).is_file():
        path = path / "model"  # a run directory of pptrain
    if not (path / CONFIG).is_file():
        raise UserError(
            f"{folder} is no model directory (it has no {CONFIG}); give a run or model directory of pptrain"
        )
    spec = ClassifierSpec.from_json((path / CONFIG).read_bytes(), str(path / CONFIG))
    net = build(spec.arch, spec.num_classes, spec.channels)
    load_weights(net, read_weights(path / WEIGHTS), str(path))
    return Classifier(net, spec).eval()


def _load_checkpoint(arch: str, file: str, class_names: tuple[str, ...]) -> Classifier:
    state = read_weights(file)
    heads = [
        t for n, t in state.items() if n.endswith("weight") and t.ndim == 2 and n.split(".")[0] in _HEADS
    ]
    heads = heads or [t for n, t in state.items() if n.endswith("weight") and t.ndim == 2]
    stems = [t for t in state.values() if t.ndim == 4]
    if not heads:
        raise UserError(
            f"{file} has no classification head (no two-dimensional weight); give a classifier's state dict"
        )
    num_classes = heads[-1].shape[0]
    channels = int(stems[0].shape[1]) if stems and stems[0].shape[1] in (1, 3) else 3
    names = class_names or _imagenet_names(num_classes) or tuple(str(i) for i in range(num_classes))
    if len(names) != num_classes:
        raise UserError(
            f"{file} has {num_classes} classes but {len(names)} class names were given; they must agree"
        )
    net = build(arch, num_classes, channels)
    load_weights(net, state, file)
    if arch in OWN:
        spec = ClassifierSpec(arch, names, channels, 32, mean=(0.5,) * channels, std=(0.5,) * channels)
    else:
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else ((0.449,), (0.226,))
        spec = ClassifierSpec(arch, names, channels, 224, 256, mean, std)
    return Classifier(net, spec).eval()


def _load_published(name: str) -> Classifier:
    """Weights that torchvision or timm publish, fetched through their own caches."""
    bare = name.removeprefix("timm/")
    try:
        if name.startswith("timm/"):
            import timm

            net = timm.create_model(bare, pretrained=True)
            data = timm.data.resolve_model_data_config(net)
            side = int(data["input_size"][-1])
            resize = round(side / float(data["crop_pct"]))
            mean, std = tuple(data["mean"]), tuple(data["std"])
            names: tuple[str, ...] = ()
        else:
            import torchvision

            if name not in torchvision.models.list_models(module=torchvision.models):
                raise UserError(
                    f"unknown classifier {name!r}; expected a model directory, a kit, a torchvision name, timm/NAME or ARCH@FILE"
                )
            weights = torchvision.models.get_model_weights(name).DEFAULT
            net = torchvision.models.get_model(name, weights=weights)
            view = weights.transforms()
            side, resize = view.crop_size[0], view.resize_size[0]
            mean, std, names = tuple(view.mean), tuple(view.std), tuple(weights.meta["categories"])
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"the weights of {name} could not be had ({reason}); give a local state dict as {name}@FILE, or use the kit letters"
        ) from error
    classes = find_head(net)[1].out_features
    names = names or _imagenet_names(classes) or tuple(str(i) for i in range(classes))
    return Classifier(net, ClassifierSpec(name, names, 3, side, resize, mean, std)).eval()


def _imagenet_names(num_classes: int) -> tuple[str, ...]:
    if num_classes != 1000:
        return ()
    import torchvision

    return tuple(torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"])


def _build_custom(arch: str, num_classes: int, channels: int) -> nn.Module:
    factory = import_callable(arch)
    accepted = inspect.signature(factory).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    wanted = {"num_classes": num_classes, "in_channels": channels}
    net = factory(**{name: value for name, value in wanted.items() if takes_all or name in accepted})
    if not isinstance(net, nn.Module):
        raise UserError(
            f"{arch} returned a {type(net).__name__}, expected a torch.nn.Module; return the network"
        )
    return net


def import_callable(name: str) -> Callable[..., Any]:
    """`package.module:attribute` -> the attribute; the working directory counts as importable.

    Raises:
        UserError: no such module or attribute, or it cannot be called.
    """
    import sys

    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    module, _, attribute = name.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"cannot import {name!r} ({error}); expected package.module:callable on the Python path"
        ) from error
    if not callable(found):
        raise UserError(f"{name!r} is a {type(found).__name__}, expected something that can be called")
    return found


def _build_timm(name: str, num_classes: int, channels: int) -> nn.Module:
    try:
        import timm
    except ImportError as error:
        raise UserError(
            "timm architectures need the package timm; pip install 'pptransfer[train]'"
        ) from error
    if not timm.is_model(name.split(".")[0]):
        raise UserError(f"unknown architecture 'timm/{name}'; timm.list_models() lists them")
    return timm.create_model(name, pretrained=False, num_classes=num_classes, in_chans=channels)


def _swap_first_convolution(net: nn.Module, channels: int) -> None:
    """torchvision builds for RGB only: give the first convolution another number of input channels."""
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d) and module.in_channels == 3 and module.groups == 1:
            parent = net.get_submodule(name.rpartition(".")[0]) if "." in name else net
            fresh = nn.Conv2d(
                channels,
                module.out_channels,
                module.kernel_size,  # type: ignore[arg-type]
                module.stride,  # type: ignore[arg-type]
                module.padding,  # type: ignore[arg-type]
                module.dilation,  # type: ignore[arg-type]
                bias=module.bias is not None,
            )
            setattr(parent, name.rpartition(".")[2], fresh)
            return
    raise UserError(
        f"{type(net).__name__} has no RGB convolution to adapt to {channels} channels; use an architecture that takes them"
    )
