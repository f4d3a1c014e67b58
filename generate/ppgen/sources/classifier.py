"""The source classifier C_s: opened beside a generator, its outputs in the order of the generator's classes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch

from ppcore.classifiers import Classifier, load_classifier
from ppcore.errors import UserError
from ppcore.trust import Trust
from ppgen.sources.alignment import aligned
from ppgen.sources.devices import choose_device
from ppgen.sources.spec import SourceSpec, source_kit


def open_classifier(spec: SourceSpec, num_classes: int, class_names: Sequence[str] = ()) -> Classifier:
    """The source classifier on the source's device, its outputs in the order of the generator's classes.

    Args:
        num_classes: of the generator.
        class_names: the generator's; a classifier file without names is taken to have them in this order.

    Raises:
        UserError: none is known, it cannot be had, or its label space is not the generator's and no class map joins them.
    """
    kit = source_kit(spec.source)
    name = spec.classifier or (kit.classifier if kit is not None else "")
    if not name:
        raise UserError(
            f"source {spec.source!r} has no classifier of its own; name one for the same {num_classes} classes with --classifier"
        )
    classifier = load_classifier(name, trust=Trust(spec.trust_code))
    if classifier.spec.num_classes != num_classes and spec.class_map is None:
        raise UserError(
            f"classifier {name!r} has {classifier.spec.num_classes} classes and source {spec.source!r} has {num_classes}; give "
            f"the classifier of the same label space with --classifier, or a class mapping with --class-map"
        )
    nameless = classifier.spec.class_names == tuple(str(k) for k in range(num_classes))
    if class_names and (spec.class_map is not None or not nameless):
        classifier = aligned(classifier, class_names, spec.class_map)
    return classifier.to(choose_device(spec.device))


def scoring_dtype(device: torch.device) -> torch.dtype:
    """In which samples are scored: bfloat16 on GPUs that have it, where a classifier would cost a good part of a few-step generator."""
    half = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if half else torch.float32


def describe_score(classifier: Classifier) -> dict[str, Any]:
    """The plan's word for what scores samples: the classifier and, where it is not float32, its number type."""
    dtype = scoring_dtype(next(classifier.buffers()).device)
    named = {} if dtype == torch.float32 else {"dtype": str(dtype).removeprefix("torch.")}
    return {**describe_classifier(classifier), **named}


def describe_classifier(classifier: Classifier) -> dict[str, Any]:
    """Architecture and sha256 of the weights: the plan's word for a classifier."""
    digest = hashlib.sha256()
    for name, tensor in sorted(classifier.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    spec = classifier.spec
    return {"arch": spec.arch, "resolution": spec.resolution, "sha256": digest.hexdigest()}
