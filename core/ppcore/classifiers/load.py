"""A trained classifier by whatever names it: a model directory, a kit, a published model, or `ARCH@FILE`."""

from __future__ import annotations

from pathlib import Path

from ppcore.classifiers.architectures import build, usual_input
from ppcore.classifiers.published import default_class_names, load_published
from ppcore.classifiers.spec import ClassifierSpec
from ppcore.classifiers.weights import CONFIG, WEIGHTS, load_weights, read_weights
from ppcore.classifiers.wrap import HEADS, Classifier
from ppcore.errors import UserError
from ppcore.kits import KITS, get_kit
from ppcore.storage import require_inside
from ppcore.trust import NOBODY, Trust


def load_classifier(spec: str, *, class_names: tuple[str, ...] = (), trust: Trust = NOBODY) -> Classifier:
    """A trained classifier in eval mode on the CPU.

    Args:
        spec: a model directory; a kit's name; a torchvision model name (its published weights); `timm/NAME` (likewise); or
            `ARCH@FILE`, a state dict in .safetensors, .pth or .pt form.
        trust: which code a model directory may name as its architecture.
        class_names: names for `ARCH@FILE`, which carries none; numbers otherwise.

    Raises:
        UserError: cannot be had, the weights do not fit, or its architecture is code that nobody here asked for.
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
            f"{folder} names code as its architecture ({spec.arch!r}), which runs only if you ask for it; read that code, then give "
            "--trust-code"
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
