"""What a report is made of: the directory, its classifier and its reference, opened before the long work begins."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from ppcore.classifiers import Classifier
from ppcore.errors import UserError
from ppcore.shards import PLAN, ShardSet
from ppcore.storage import Store
from ppcore.targets import Target, load_target
from ppgen.plan import MergedPlan, Plan
from ppgen.quality.features import has_features
from ppgen.shards import read_any_plan
from ppgen.sources import (
    NONE,
    Typed,
    describe_classifier,
    open_classifier,
    planned_spec,
    planned_target,
)


@dataclass(frozen=True)
class ReportRequest:
    """What to report on.

    Attributes:
        directory: finished shard directory.
        reference: shard directory or target spec to measure distances to, or `none`; by default a pseudo set's own target.
        uniform: synth directory, or pseudo directory of uniform conditions, to set beside the samples.
        typed: the source and its classifier; by default those that the directory was made with.
        samples: most images to measure of each set.
    """

    directory: str
    reference: str | None = None
    uniform: str | None = None
    typed: Typed = field(default_factory=Typed)
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
    plan = _first_plan(request.directory)
    uniform = None if request.uniform is None else _open_uniform(shards, request.uniform)
    notes: list[str] = []
    classifier = _open_classifier(shards, plan, request, notes)
    target = _open_target(plan, request.reference, notes) if shards.kind == "pseudo" else None
    reference: ShardSet | Target | None = target
    if request.reference == NONE:
        reference = None
    elif request.reference is not None:
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


def _first_plan(directory: str) -> Plan:
    """The plan of a directory, of a merged one that of its first part; its fingerprint fits."""
    plan = read_any_plan(Store(directory))
    return plan.parts[0].plan if isinstance(plan, MergedPlan) else plan


def _open_classifier(
    shards: ShardSet, plan: Plan, request: ReportRequest, notes: list[str]
) -> Classifier | None:
    """The named classifier, or the one the directory was made with where it can be had.

    Raises:
        UserError: what was typed cannot be had, or the plan names what has to be typed.
    """
    typed = request.typed
    if typed.classifier == NONE:
        notes.append("No figures of the source classifier: they were not asked for.")
        return None
    spec = planned_spec(plan.load, typed, request.device, classifier_only=True)
    try:
        classifier = open_classifier(spec, shards.num_classes, shards.class_names)
    except UserError as error:
        if typed.classifier is not None or typed.source is not None:
            raise
        # The reason may hold paths of this machine, which are nobody else's business; the notes are published.
        print(f"note: {error}", file=sys.stderr)
        notes.append("No figures of the source classifier: it could not be had.")
        return None
    planned = (plan.condition or {}).get("classifier") or plan.score
    if planned and planned["sha256"] != describe_classifier(classifier)["sha256"]:
        notes.append("The classifier of these figures is not the one that the directory was made with.")
    return classifier


def _open_target(plan: Plan, typed: str | None, notes: list[str]) -> Target | None:
    """The target that conditioned a pseudo set, where it still is and nothing else was typed in its place."""
    assert plan.target is not None
    name = str(plan.target["name"])
    spec = planned_target(plan.load, name, typed)
    if spec is None:
        notes.append(f"The target {name} was not looked for; something else was named with --reference.")
        return None
    try:
        return load_target(spec)
    except UserError:
        notes.append(f"The target {name} is not where it was; name it with --reference for distances to it.")
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
