"""The source classifier C_s: opened beside a generator, with its outputs in the order of the generator's classes."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ppcore.classifiers import Classifier, load_classifier
from ppcore.errors import UserError
from ppcore.storage import read_json
from ppcore.trust import Trust
from ppgen.sources.classes import ENOUGH, ClassIndex, share_a_name
from ppgen.sources.devices import choose_device
from ppgen.sources.protocol import SourceSpec, source_kit


def align_classes(
    classifier: Sequence[str], generator: Sequence[str], mapping: Mapping[str, str] | None = None
) -> np.ndarray:
    """For every class of the classifier, the class of the generator, or -1.

    Identifiers such as WordNet ids are matched exactly and may be in another order. Lists of names count as the same classes if at nine
    of ten positions they share a synonym ("tench, Tinca tinca" and "tench"); a shuffled list of names is refused.

    Args:
        classifier, generator: identifiers or names of their classes, in order.
        mapping: class of the classifier -> class of the generator, by name, number or WordNet id. Several may map to one; classes
            left out get -1.

    Returns:
        int64 (K of the classifier,).

    Raises:
        UserError: the classes do not agree, or the mapping names a class that is unknown or has the same name as another.
    """
    if mapping is not None:
        return _by_mapping(classifier, generator, mapping)
    if len(classifier) != len(generator):
        raise UserError(
            f"the classifier has {len(classifier)} classes and the generator {len(generator)}; give a classifier with the generator's "
            "classes, or a class mapping (--class-map)"
        )
    if list(classifier) == list(generator):  # published lists may contain a name twice
        return np.arange(len(generator), dtype=np.int64)
    if set(classifier) == set(generator):
        place = _places(generator)
        _places(classifier)
        return np.array([place[name] for name in classifier], dtype=np.int64)
    agree = [share_a_name(a, b) for a, b in zip(classifier, generator, strict=True)]
    if sum(agree) < ENOUGH * len(generator):
        first = agree.index(False)
        raise UserError(
            f"the classifier and the generator have different classes (class {first} is {classifier[first]!r} and "
            f"{generator[first]!r}); give a classifier with the generator's classes or a class mapping (--class-map), or name the "
            "generator's classes with --set class_names=..."
        )
    return np.arange(len(generator), dtype=np.int64)


def realign(probabilities: torch.Tensor, joined: torch.Tensor, complete: bool) -> torch.Tensor:
    """Convert probabilities of the classifier (B, K_c) to probabilities of the generator's classes (B, K_g).

    Rows sum to 1; a row without probability on any mapped class is NaN. A matrix product in float64 gives the same bits every time,
    which adding by index on a GPU does not.

    Args:
        joined: float64 (K_c, K_g), from :func:`joining_matrix`.
        complete: whether every class of the classifier is mapped, so that the rows already sum to 1.
    """
    moved = (probabilities.double() @ joined).to(probabilities.dtype)
    return moved if complete else moved / moved.sum(dim=1, keepdim=True)


def require_defined(outputs: torch.Tensor) -> None:
    """Raise UserError if outputs of a classifier (B, K) contain NaN (see :class:`AlignedClassifier`)."""
    if outputs.isnan().any():
        raise UserError(
            "an image has no probability on any mapped class, or the classifier returns NaN; map more classes in --class-map"
        )


def joining_matrix(places: np.ndarray, num_classes: int) -> torch.Tensor:
    """float64 (K_c, num_classes): 1 where a class of the classifier is that class of the generator, else 0.

    Args:
        places: int64 (K_c,), from :func:`align_classes`.
    """
    joined = torch.zeros(len(places), num_classes, dtype=torch.float64)
    kept = torch.from_numpy(np.flatnonzero(places >= 0))
    joined[kept, torch.from_numpy(places)[kept]] = 1.0
    return joined


class AlignedClassifier(Classifier):
    """A classifier with the generator's classes as outputs.

    Its outputs are log-probabilities (B, K of the generator) instead of logits; NaN for an image without probability on any mapped class.

    Args:
        inner: the classifier.
        places: int64 (K of the classifier,), from :func:`align_classes`.
        class_names: names of the generator's classes.
    """

    _joined: torch.Tensor

    def __init__(self, inner: Classifier, places: np.ndarray, class_names: Sequence[str]) -> None:
        super().__init__(inner.net, replace(inner.spec, class_names=tuple(class_names), class_ids=()))
        self._complete = bool((places >= 0).all())
        # A saved buffer, so that the digest of the classifier (in the plan) depends on the alignment.
        self.register_buffer("_places", torch.from_numpy(places))
        self.register_buffer("_joined", joining_matrix(places, len(class_names)), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (B, C, H, W) -> float32 log-probabilities (B, K of the generator)."""
        return self._moved(super().forward(images))

    def embed(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`ppcore.classifiers.Classifier.embed`."""
        features, logits = super().embed(images)
        return features, self._moved(logits)

    def _moved(self, logits: torch.Tensor) -> torch.Tensor:
        moved = realign(logits.float().softmax(dim=1), self._joined, self._complete)
        return moved.clamp_min(torch.finfo(torch.float32).tiny).log()


def aligned(
    classifier: Classifier, class_names: Sequence[str], mapping: Mapping[str, str] | None
) -> Classifier:
    """The classifier with outputs in the order of the generator's `class_names`; unchanged if it has that order already.

    Raises:
        UserError: see :func:`align_classes`.
    """
    places = align_classes(classifier.spec.class_names, class_names, mapping)
    if np.array_equal(places, np.arange(len(class_names))):
        return classifier
    return AlignedClassifier(classifier, places, class_names).eval()


def read_mapping(file: str | Path) -> dict[str, str]:
    """Read a class mapping: a JSON object, or CSV with lines `classifier class,generator class`; names or numbers.

    Raises:
        UserError: the file cannot be read or has another form.
    """
    path = Path(file)
    try:
        if path.suffix == ".json":
            table = read_json(path, dict[str, str | int])
            return {name: str(value) for name, value in table.items()}
        text = path.read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot read the class mapping {path} ({error}); expected a JSON object from classifier class to generator class, or CSV"
        ) from error
    rows = [row for row in csv.reader(io.StringIO(text)) if row and not row[0].startswith("#")]
    if not rows or any(len(row) != 2 for row in rows):
        raise UserError(
            f"the class mapping {path} must have two columns, classifier class and generator class, on every line"
        )
    pairs = {(key.strip(), value.strip()) for key, value in rows}
    if len(dict(pairs)) < len(pairs):
        keys = [key for key, _ in pairs]
        double = min(key for key in keys if keys.count(key) > 1)
        raise UserError(f"the class mapping {path} maps {double!r} to two classes; map it to one")
    return dict(pairs)


def _by_mapping(
    classifier: Sequence[str], generator: Sequence[str], mapping: Mapping[str, str]
) -> np.ndarray:
    if not mapping:
        raise UserError("the class mapping is empty; map at least one classifier class to a generator class")
    places = np.full(len(classifier), -1, dtype=np.int64)
    known, wanted = ClassIndex(classifier), ClassIndex(generator)
    for key, value in mapping.items():
        mapped = _find(key, known, len(classifier), "classifier")
        to = _find(value, wanted, len(generator), "generator")
        if places[mapped] not in (-1, to):
            raise UserError(
                f"the class mapping maps class {mapped} of the classifier ({classifier[mapped]!r}) to two classes of the generator; "
                "map it to one"
            )
        places[mapped] = to
    return places


def _find(text: str, index: ClassIndex, num_classes: int, whose: str) -> int:
    """The class that a class mapping means by a name, an identifier or a number."""
    found = index.find(text)
    if not found and text.isdecimal() and int(text) < num_classes:
        found = [int(text)]
    if not found:
        raise UserError(
            f"the class mapping names {text!r}, which the {whose} does not have; use its class names or numbers from 0 to "
            f"{num_classes - 1}"
        )
    if len(found) > 1:
        raise UserError(
            f"the class mapping names {text!r}, and the {whose} has {len(found)} classes of that name; use one of their numbers, "
            f"{', '.join(map(str, found))}"
        )
    return found[0]


def _places(names: Sequence[str]) -> dict[str, int]:
    place = {name: i for i, name in enumerate(names)}
    if len(place) != len(names):
        double = next(name for i, name in enumerate(names) if place[name] != i)
        raise UserError(
            f"two classes are called {double!r}; classes are matched by id, so give each class an id of its own"
        )
    return place


def open_classifier(spec: SourceSpec, num_classes: int, class_names: Sequence[str] = ()) -> Classifier:
    """Open the source classifier on the source's device, with outputs in the order of the generator's classes.

    Args:
        num_classes: number of classes of the generator.
        class_names: names of the generator's classes; a classifier file without names is assumed to have this order.

    Raises:
        UserError: no classifier is known, it cannot be opened, or its classes are not the generator's and there is no class map.
    """
    kit = source_kit(spec.source)
    name = spec.classifier or (kit.classifier if kit is not None else "")
    if not name:
        raise UserError(
            f"source {spec.source!r} has no classifier of its own; name one for its {num_classes} classes with --classifier"
        )
    classifier = load_classifier(name, trust=Trust(spec.trust_code))
    if classifier.spec.num_classes != num_classes and spec.class_map is None:
        raise UserError(
            f"classifier {name!r} has {classifier.spec.num_classes} classes and source {spec.source!r} has {num_classes}; give "
            f"a classifier with the same classes with --classifier, or a class mapping with --class-map"
        )
    nameless = classifier.spec.class_names == tuple(str(k) for k in range(num_classes))
    if class_names and (spec.class_map is not None or not nameless):
        classifier = aligned(classifier, class_names, spec.class_map)
    return classifier.to(choose_device(spec.device))


def scoring_dtype(device: torch.device) -> torch.dtype:
    """The number type for scoring samples: bfloat16 on GPUs that support it, because scoring is slow compared with a few-step generator."""
    half = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if half else torch.float32


def describe_score(classifier: Classifier) -> dict[str, Any]:
    """The entry `score` of a plan: the classifier and, if it is not float32, its number type."""
    dtype = scoring_dtype(next(classifier.buffers()).device)
    named = {} if dtype == torch.float32 else {"dtype": str(dtype).removeprefix("torch.")}
    return {**describe_classifier(classifier), **named}


def describe_classifier(classifier: Classifier) -> dict[str, Any]:
    """The entry of a classifier in a plan: architecture, resolution and sha256 of the weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(classifier.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    spec = classifier.spec
    return {"arch": spec.arch, "resolution": spec.resolution, "sha256": digest.hexdigest()}
