"""What a report is made of: the directory, its classifier and its reference, opened before the long work begins."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from ppcore.classifiers import Classifier
from ppcore.errors import UserError
from ppcore.shards import PLAN, ShardSet
from ppcore.storage import Store
from ppcore.targets import Target, load_target
from ppgen.quality.features import has_features
from ppgen.sources import SourceSpec, describe_classifier, open_classifier


@dataclass(frozen=True)
class ReportRequest:
    """What to report on.

    Attributes:
        directory: finished shard directory.
        reference: shard directory or target spec to measure distances to; by default a pseudo set's own target.
        uniform: synth directory, or pseudo directory of uniform conditions, to set beside the samples.
        classifier: source classifier; by default the one the directory was made with.
        source: where the source is now, if it has moved.
        samples: most images to measure of each set.
    """

    directory: str
    reference: str | None = None
    uniform: str | None = None
    classifier: str | None = None
    source: str | None = None
    samples: int = 10_000
    seed: int = 0
    device: str = "auto"


@dataclass
class Inputs:
    """The parts of a request, opened before the long work begins; `notes` says what had to be left out and why."""

    shards: ShardSet
    uniform: ShardSet | None
    classifier: Classifier | None
    reference: ShardSet | Target | None
    target: Target | None
    notes: list[str] = field(default_factory=list)


def open_inputs(request: ReportRequest) -> Inputs:
    """Raises UserError where something that was asked for by name cannot be had or does not fit."""
    shards = ShardSet.open(request.directory)
    uniform = None if request.uniform is None else _open_uniform(shards, request.uniform)
    notes: list[str] = []
    classifier = _open_classifier(shards, request, notes)
    target = _open_target(shards, notes) if shards.kind == "pseudo" else None
    reference: ShardSet | Target | None = target
    if request.reference is not None:
        reference = _open_reference(request.reference)
    if uniform is not None and reference is None:
        raise UserError("--uniform is set beside the samples against a reference; give one with --reference")
    if reference is not None and (classifier is None or not has_features(classifier)):
        missing = "no classifier" if classifier is None else "no linear head to take features from"
        if request.reference is not None or uniform is not None:
            raise UserError(
                f"distances to a reference need the source classifier's features and there is {missing}; name one with --classifier"
            )
        notes.append(f"No distances: there is {missing}.")
        reference = None
    return Inputs(shards, uniform, classifier, reference, target, notes)


def _open_classifier(shards: ShardSet, request: ReportRequest, notes: list[str]) -> Classifier | None:
    """The named classifier, or the one the directory was made with where it can be had."""
    load = dict(shards.plan.get("load") or {})
    if request.classifier is not None:
        load["classifier"] = request.classifier
    if not load.get("source"):
        load["source"] = shards.plan["source"]["name"]
    spec = SourceSpec.from_hint(load, request.device, request.source)
    try:
        classifier = open_classifier(spec, shards.num_classes, shards.class_names)
    except UserError as error:
        if request.classifier is not None or request.source is not None:
            raise
        # The reason may hold paths of this machine, which are nobody else's business; the notes are published.
        print(f"note: {error}", file=sys.stderr)
        notes.append("No figures of the source classifier: it could not be had.")
        return None
    planned = (shards.plan.get("condition") or {}).get("classifier") or shards.plan.get("score")
    if planned and planned["sha256"] != describe_classifier(classifier)["sha256"]:
        notes.append("The classifier of these figures is not the one that the directory was made with.")
    return classifier


def _open_target(shards: ShardSet, notes: list[str]) -> Target | None:
    """The target that conditioned a pseudo set, where it still is."""
    name = (shards.plan.get("load") or {}).get("target") or shards.plan["target"]["name"]
    try:
        return load_target(str(name))
    except UserError:
        notes.append(
            f"The target {shards.plan['target']['name']} is not where it was; name it with --reference for distances to it."
        )
        return None


def _open_reference(name: str) -> ShardSet | Target:
    return ShardSet.open(name) if Store(name).exists(PLAN) else load_target(name)


def _open_uniform(shards: ShardSet, name: str) -> ShardSet:
    uniform = ShardSet.open(name)
    if uniform.class_names != shards.class_names:
        raise UserError(
            f"{name} has other source classes than {shards.store}; give samples of the same source as --uniform"
        )
    mode = (uniform.plan.get("condition") or {}).get("mode", "uniform")
    if uniform.kind == "pseudo" and mode != "uniform":
        raise UserError(
            f"{name} was made with the condition {mode!r}; give a directory of ppgen synth, or of ppgen pseudo --condition uniform"
        )
    return uniform
