"""Weights and class names that torchvision and timm publish, fetched through their own caches."""

from __future__ import annotations

from torch import nn

from ppcore.classifiers.spec import ClassifierSpec
from ppcore.classifiers.wrap import Classifier, find_head
from ppcore.errors import UserError


def imagenet_class_names() -> tuple[str, ...]:
    """The names torchvision gives ImageNet's 1,000 classes, in the usual order."""
    return published_class_names("resnet50")


def published_class_names(name: str) -> tuple[str, ...]:
    """The classes of the weights that torchvision publishes for the model `name`; empty when it has no such model."""
    import torchvision  # heavy: a second that networks of ours do not need

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
        UserError: unknown, or the weights cannot be had.
    """
    try:
        net, spec = _from_timm(name) if name.startswith("timm/") else _from_torchvision(name)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"the weights of {name} could not be had ({reason}); give a local state dict as {name}@FILE, or use the kit letters"
        ) from error
    return Classifier(net, spec).eval()


def _from_torchvision(name: str) -> tuple[nn.Module, ClassifierSpec]:
    import torchvision  # heavy: a second that networks of ours do not need

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
    import timm  # optional: only for timm/NAME

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
