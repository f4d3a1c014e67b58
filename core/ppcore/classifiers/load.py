"""Trained classifiers: read from a model directory, a kit, a published model or ARCH@FILE without running code; written whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import nn

from ppcore.classifiers.architectures import build, usual_input
from ppcore.classifiers.classifier import HEADS, Classifier, ClassifierSpec, find_head
from ppcore.errors import UserError
from ppcore.kits import KITS, get_kit
from ppcore.storage import Store, require_inside
from ppcore.trust import NOBODY, Trust

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def save_classifier(folder: str | Path, net: nn.Module, spec: ClassifierSpec) -> None:
    """Write model.safetensors, then config.json, each atomically."""
    store = Store(folder)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    store.write_atomic(WEIGHTS, save(weights))
    store.write_atomic(CONFIG, (json.dumps(asdict(spec), indent=1) + "\n").encode())


def read_weights(file: str | Path) -> dict[str, torch.Tensor]:
    """Read a state dict from .safetensors, or from a pickle with `weights_only` (no code runs).

    Raises:
        UserError: missing, unreadable, or not a state dict.
    """
    path = Path(file)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"no weights at {path}; check the path") from error
    except Exception as error:  # pickle and safetensors raise many types for damaged files
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path} cannot be read as weights ({reason}); expected safetensors or a plain state dict"
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise UserError(f"{path} holds no state dict; expected a mapping from names to tensors")
    return {str(name).removeprefix("module."): tensor for name, tensor in state.items()}


def load_weights(net: nn.Module, state: Mapping[str, torch.Tensor], where: str) -> None:
    """Load `state` into `net`. Raises UserError that names missing, unexpected and differently shaped tensors; `where` names the file."""
    own = net.state_dict()
    missing = sorted(set(own) - set(state))
    unexpected = sorted(set(state) - set(own))
    shapes = [name for name in own if name in state and own[name].shape != state[name].shape]
    if missing or unexpected or shapes:
        parts = [("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)]
        misfits = "; ".join(f"{len(names)} keys {what} such as {names[0]}" for what, names in parts if names)
        raise UserError(
            f"the weights in {where} do not fit {type(net).__name__}: {misfits}; use the architecture that they were trained with"
        )
    net.load_state_dict({name: state[name] for name in own})


def imagenet_class_names() -> tuple[str, ...]:
    """torchvision's names of ImageNet's 1,000 classes, in the usual order."""
    return published_class_names("resnet50")


def published_class_names(name: str) -> tuple[str, ...]:
    """The classes of the weights that torchvision publishes for the model `name`; empty if there is no such model."""
    import torchvision  # slow to import, not needed for built-in networks

    if name not in torchvision.models.list_models(module=torchvision.models):
        return ()
    return tuple(torchvision.models.get_model_weights(name).DEFAULT.meta["categories"])


def default_class_names(num_classes: int) -> tuple[str, ...]:
    """ImageNet's names for 1,000 classes, numbers for any other count."""
    return imagenet_class_names() if num_classes == 1000 else tuple(str(k) for k in range(num_classes))


def load_published(name: str) -> Classifier:
    """A classifier with its published weights, in eval mode.

    Args:
        name: of a torchvision classification model, or `timm/NAME`.

    Raises:
        UserError: unknown name, or the weights cannot be downloaded.
    """
    try:
        net, spec = _from_timm(name) if name.startswith("timm/") else _from_torchvision(name)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"the weights of {name} cannot be downloaded ({reason}); give a local state dict as {name}@FILE, or use the kit letters"
        ) from error
    return Classifier(net, spec).eval()


def _from_torchvision(name: str) -> tuple[nn.Module, ClassifierSpec]:
    import torchvision  # slow to import, not needed for built-in networks

    names = published_class_names(name)
    if not names:
        raise UserError(
            f"unknown classifier {name!r}; expected a model directory, a kit, a torchvision name, timm/NAME or ARCH@FILE"
        )
    weights = torchvision.models.get_model_weights(name).DEFAULT
    net = torchvision.models.get_model(name, weights=weights)
    view = weights.transforms()
    return net, ClassifierSpec(
        name,
        names,
        channels=3,
        resolution=view.crop_size[0],
        resize=view.resize_size[0],
        mean=tuple(view.mean),
        std=tuple(view.std),
    )


def _from_timm(name: str) -> tuple[nn.Module, ClassifierSpec]:
    import timm  # optional

    net = timm.create_model(name.removeprefix("timm/"), pretrained=True)
    data = timm.data.resolve_model_data_config(net)
    side = int(data["input_size"][-1])
    return net, ClassifierSpec(
        name,
        default_class_names(find_head(net)[1].out_features),
        channels=3,
        resolution=side,
        resize=round(side / float(data["crop_pct"])),
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
    )


def load_classifier(spec: str, *, class_names: tuple[str, ...] = (), trust: Trust = NOBODY) -> Classifier:
    """A trained classifier in eval mode on the CPU.

    Args:
        spec: a model directory; the name of a kit; a torchvision model or `timm/NAME`, with its published weights; or
            `ARCH@FILE`, a state dict in .safetensors, .pth or .pt form.
        trust: the code that a model directory may name as its architecture.
        class_names: names for `ARCH@FILE`, which has none; by default numbers.

    Raises:
        UserError: not found, the weights do not fit, or the architecture is code that `trust` does not allow.
    """
    if Path(spec).is_dir():
        return _load_directory(spec, trust)
    if "@" in spec:
        arch, _, file = spec.partition("@")
        return _load_checkpoint(arch, file, class_names)
    if spec in KITS:
        return load_classifier(get_kit(spec).classifier)
    return load_published(spec)


def _load_directory(folder: str, trust: Trust) -> Classifier:
    root, below = Path(folder), ""
    if not (root / CONFIG).is_file() and (root / "model" / CONFIG).is_file():
        below = "model/"  # a run directory of pptrain
    path = root / below
    if not (path / CONFIG).is_file():
        raise UserError(
            f"{folder} is no model directory (it has no {CONFIG}); give a run or model directory of pptrain"
        )
    for name in (CONFIG, WEIGHTS):
        require_inside(root, below + name)
    spec = ClassifierSpec.read(path / CONFIG)
    if ":" in spec.arch and not trust.allows(spec.arch):
        raise UserError(
            f"{folder} names code as its architecture ({spec.arch!r}); read that code, then allow it with --trust-code"
        )
    net = build(spec.arch, spec.num_classes, spec.channels)
    load_weights(net, read_weights(path / WEIGHTS), str(path))
    return Classifier(net, spec).eval()


def _load_checkpoint(arch: str, file: str, class_names: tuple[str, ...]) -> Classifier:
    state = read_weights(file)
    heads = [t for n, t in state.items() if n.endswith("weight") and t.ndim == 2 and n.split(".")[0] in HEADS]
    heads = heads or [t for n, t in state.items() if n.endswith("weight") and t.ndim == 2]
    stems = [t for t in state.values() if t.ndim == 4]
    if not heads:
        raise UserError(
            f"{file} has no classification head (no two-dimensional weight); give a classifier's state dict"
        )
    num_classes = heads[-1].shape[0]
    channels = int(stems[0].shape[1]) if stems and stems[0].shape[1] in (1, 3) else 3
    names = class_names or default_class_names(num_classes)
    if len(names) != num_classes:
        raise UserError(
            f"{file} has {num_classes} classes but {len(names)} class names were given; they must agree"
        )
    net = build(arch, num_classes, channels)
    load_weights(net, state, file)
    side, mean, std = usual_input(arch, channels)
    resize = 256 if side == 224 else 0
    spec = ClassifierSpec(arch, names, channels, side, resize, mean, std)
    return Classifier(net, spec).eval()
