"""The images of a target that a model is judged on, labelled with the model's own classes."""

from __future__ import annotations

import numpy as np

from ppcore.classifiers import ClassifierSpec
from ppcore.errors import UserError
from ppcore.targets import ImageSet, Target


def choose_split(target: Target, split: str, spec: ClassifierSpec) -> ImageSet:
    """`test`, `train`, or `all` images of a target (training images first), labelled with the model's classes.

    Raises:
        UserError: unknown split, or the model does not know the classes.
    """
    images, labels = _split(target, split), matched_labels(spec, target)
    return ImageSet(images.ids, labels[images.labels], images.load)


def matched_labels(spec: ClassifierSpec, target: Target) -> np.ndarray:
    """Target class -> the model's class of the same name: int64 (classes of the target,).

    The same number of classes under other names is taken to be in the same order.

    Raises:
        UserError: the model does not know the target's classes.
    """
    names = {name: position for position, name in enumerate(spec.class_names)}
    if all(name in names for name in target.classes):
        return np.array([names[name] for name in target.classes], dtype=np.int64)
    if spec.num_classes == len(target.classes):
        return np.arange(spec.num_classes, dtype=np.int64)
    raise UserError(
        f"the model has {spec.num_classes} classes, target {target.name!r} has {len(target.classes)} others; fine-tune the "
        f"model on this target first"
    )


def _split(target: Target, split: str) -> ImageSet:
    if split == "test":
        return target.test
    if split == "train":
        return target.train
    if split != "all":
        raise UserError(f"unknown split {split!r}; expected test, train or all")
    train, test = target.train, target.test
    count = len(train)
    labels = np.concatenate([train.labels, test.labels])
    return ImageSet(
        train.ids + test.ids, labels, lambda i: train.load(i) if i < count else test.load(i - count)
    )
