"""Trained classifiers: read from a model directory, a kit, a published model or ARCH@FILE without running code; written whole."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import ConfigDict, Field
from safetensors.torch import save
from torch import nn
from torch.nn import functional as F

from ppcore.classifiers.architectures import build, usual_input
from ppcore.classifiers.heads import head_names, linear_map, run_with_features
from ppcore.classifiers.weights import first_names, load_weights, read_weights, without_prefix
from ppcore.errors import UserError, first_line
from ppcore.images import MAX_SIDE, CropMode, Interpolation, Preparation
from ppcore.kits import KITS, get_kit
from ppcore.places import local_path
from ppcore.storage import Store, read_json, require_inside
from ppcore.trust import NOBODY, Trust

MAX_CLASSES = (
    100_000  # the head is allocated before the weights are read, and config.json may come from anybody
)
_USUAL_CLASSES = 1000  # ImageNet's


@dataclass(frozen=True)
class ClassifierSpec:
    """How to build a classifier and how to prepare its input; the content of config.json.

    Attributes:
        arch: name for :func:`ppcore.classifiers.build`.
        class_names: the K class names.
        class_ids: K stable identifiers such as WordNet ids; may be empty.
        channels: input channels of the network, 1 or 3.
        resolution: side of its input in pixels.
        resize, interpolation, crop_mode: see :class:`ppcore.images.Preparation`.
        mean, std: for each channel, of images scaled to [0, 1].
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    arch: Annotated[str, Field(max_length=200)]
    class_names: Annotated[tuple[str, ...], Field(min_length=1, max_length=MAX_CLASSES)]
    channels: Annotated[int, Field(ge=1, le=3)]
    resolution: Annotated[int, Field(ge=1, le=MAX_SIDE)]
    resize: Annotated[int, Field(ge=0, le=MAX_SIDE)] = 0
    mean: Annotated[tuple[float, ...], Field(min_length=1, max_length=3)] = (0.5,)
    std: Annotated[tuple[float, ...], Field(min_length=1, max_length=3)] = (0.5,)
    interpolation: Interpolation = "bicubic"
    crop_mode: CropMode = "center"
    class_ids: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def preparation(self) -> Preparation:
        """How an image becomes the input; timm gives borders the mean colour."""
        border = self.crop_mode == "border"
        fill = tuple(round(255 * value) if border else 0 for value in self.mean)
        return Preparation(
            self.resolution, self.channels, self.resize, self.interpolation, self.crop_mode, fill
        )

    @classmethod
    def read(cls, path: Path) -> ClassifierSpec:
        """Read a config.json. Raises UserError if it does not describe a classifier."""
        try:
            return read_json(path, cls)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{path} does not describe a classifier ({error}); expected the config.json that pptrain writes"
            ) from error


class Classifier(nn.Module):
    """A network with its preprocessing: takes uint8 images of any size, returns float32 logits."""

    _mean: torch.Tensor
    _std: torch.Tensor

    def __init__(self, net: nn.Module, spec: ClassifierSpec) -> None:
        super().__init__()
        self.net, self.spec = net, spec
        self.register_buffer("_mean", torch.tensor(spec.mean).view(1, -1, 1, 1) * 255.0, persistent=False)
        self.register_buffer("_std", torch.tensor(spec.std).view(1, -1, 1, 1) * 255.0, persistent=False)

    def preprocess(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (B, C, H, W) -> normalised float32 (B, C', R, R), prepared as torchvision and timm prepare tensors.

        Bicubic pixels at sharp edges differ by some levels from those of Pillow, which :meth:`ppcore.images.Preparation.fit` makes of
        photographs.
        """
        spec = self.spec
        x = images.float()
        if x.shape[1] != spec.channels:
            x = to_grey(x) if spec.channels == 1 else x.expand(-1, 3, -1, -1)
        side, preparation = spec.resolution, spec.preparation
        (height, width), (top, left) = preparation.place(*x.shape[-2:])
        if x.shape[-2:] != (height, width):
            x = F.interpolate(x, size=(height, width), mode=spec.interpolation, antialias=True).clamp_(0, 255)
            x = x if images.is_floating_point() else x.round_()
        if (height, width) != (side, side):
            fill = x.new_tensor(preparation.fill).view(-1, 1, 1)
            x = F.pad(x - fill, (-left, left + side - width, -top, top + side - height)) + fill
        return (x - self._mean) / self._std

    def whole(self) -> Classifier:
        """The same classifier for images that are prepared already, such as (B, C, R, R): it shows the network the whole image."""
        twin = copy.copy(self)
        twin.spec = replace(self.spec, resize=0, crop_mode="squash")
        return twin

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (B, C, H, W) -> float32 logits (B, K)."""
        return self.net(self.preprocess(images)).float()

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (B, C, H, W) -> float32 features (B, D): the input of the head (see `run_with_features`)."""
        return self.embed(images)[0]

    def embed(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """uint8 (B, C, H, W) -> (:meth:`features`, :meth:`forward`) in one pass."""
        features, logits = run_with_features(self.net, self.preprocess(images))
        return features.float(), logits.float()


def to_grey(images: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) -> (B, 1, H, W), ITU-R 601 luma like Pillow's `L`."""
    weights = images.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True)


def soft_labels(logits: torch.Tensor, temperature: float, top_k: int | None) -> torch.Tensor:
    """softmax(logits / temperature), cut to the `top_k` largest entries and renormalised: float64 (N, K)."""
    probabilities = (logits.double() / temperature).softmax(dim=1)
    if top_k is None or top_k >= logits.shape[1]:
        return probabilities
    values, classes = probabilities.topk(top_k, dim=1)
    kept = torch.zeros_like(probabilities).scatter_(1, classes, values)
    return kept / kept.sum(dim=1, keepdim=True)


CONFIG, WEIGHTS = "config.json", "model.safetensors"


def save_classifier(folder: str | Path, net: nn.Module, spec: ClassifierSpec) -> None:
    """Write model.safetensors, then config.json, each atomically. A tensor that has several names is stored under the first one."""
    store = Store(folder)
    state = net.state_dict()
    first = first_names(state)
    weights = {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in state.items()
        if first[name] == name
    }
    store.write_atomic(WEIGHTS, save(weights))
    store.write_atomic(CONFIG, (json.dumps(asdict(spec), indent=1) + "\n").encode())


# Auxiliary classifiers of torchvision's googlenet and inception_v3, which `build` leaves out.
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")


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
    return (
        imagenet_class_names() if num_classes == _USUAL_CLASSES else tuple(str(k) for k in range(num_classes))
    )


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
        raise UserError(
            f"the weights of {name} cannot be downloaded ({first_line(error)}); give a local state dict as {name}@FILE, or the kit letters"
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
    if hasattr(net, "AuxLogits"):  # Inception's auxiliary classifier, which `build` leaves out
        net.aux_logits, net.AuxLogits = False, None
    return net, _published_spec(name, names)


def _from_timm(name: str) -> tuple[nn.Module, ClassifierSpec]:
    import timm  # optional

    net = timm.create_model(name.removeprefix("timm/"), pretrained=True)
    return net, _published_spec(name, default_class_names(len(linear_map(net)[1])))


def _published_spec(name: str, class_names: tuple[str, ...]) -> ClassifierSpec:
    return ClassifierSpec(name, class_names, 3, *usual_input(name, 3))


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
    spec = local_path(spec)
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
    # The file comes first: a URL with a password in it must not be taken for an architecture and shown.
    stored = read_weights(file)
    net = build(arch, _USUAL_CLASSES)
    state = without_prefix(stored, net, file)
    heads = [state[f"{name}.weight"] for name in head_names(net) if f"{name}.weight" in state]
    stem = state.get(next((f"{n}.weight" for n, m in net.named_modules() if isinstance(m, nn.Conv2d)), ""))
    num_classes = heads[0].shape[0] if heads else _USUAL_CLASSES
    channels = 1 if stem is not None and stem.shape[1:2] == (1,) else 3
    names = class_names or default_class_names(num_classes)
    if len(names) != num_classes:
        raise UserError(
            f"{file} has {num_classes} classes but {len(names)} class names were given; they must agree"
        )
    if (num_classes, channels) != (_USUAL_CLASSES, 3):
        net = build(arch, num_classes, channels)
    own = net.state_dict().keys()
    load_weights(net, {n: t for n, t in state.items() if n in own or not n.startswith(_AUXILIARY)}, file)
    return Classifier(net, ClassifierSpec(arch, names, channels, *usual_input(arch, channels))).eval()
