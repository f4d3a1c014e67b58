"""From a report request to the figures of a shard directory: opens what the request names, then measures."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ppcore.classifiers import Classifier
from ppcore.console import Progress
from ppcore.errors import UserError
from ppcore.shards import PLAN, ShardSet
from ppcore.storage import Store
from ppcore.targets import Target, load_target
from ppgen.options import ReportOptions
from ppgen.plan import Plan
from ppgen.quality.features import SampleSet, has_features, measure_images, measure_shards
from ppgen.quality.figures import class_spread, compare_sets, look_alikes, manifest_figures, measure_agreement
from ppgen.shards import read_plan
from ppgen.sources import NONE, describe_classifier, open_classifier, planned_spec, planned_target


@dataclass
class Assessment:
    """The figures of a directory, and the samples that the page shows.

    Attributes:
        figures: content of quality.json.
        target: target of a pseudo set, None if it could not be opened.
    """

    shards: ShardSet
    samples: SampleSet
    figures: dict[str, Any]
    target: Target | None = None


def assess(directory: str, options: ReportOptions) -> Assessment:
    """Measure a directory; writes nothing.

    Raises:
        UserError: see :func:`open_inputs`.
    """
    inputs = open_inputs(directory, options)
    shards, classifier = inputs.shards, inputs.classifier
    sets = [s for s in (shards, inputs.uniform, inputs.reference) if s is not None]
    progress = Progress(sum(min(options.samples, _size(s)) for s in sets), "images", label="report")

    def measure(images: ShardSet | Target, name: str) -> SampleSet:
        how_many = options.samples, options.seed
        if isinstance(images, ShardSet):
            return measure_shards(images, classifier, *how_many, progress.advance, name=name)
        return measure_images(images.train, classifier, *how_many, progress.advance, name=name)

    own = measure(shards, "pseudo samples" if shards.kind == "pseudo" else "synthetic samples")
    figures: dict[str, Any] = {
        "kind": shards.kind,
        "source": shards.plan["source"]["name"],
        "fingerprint": shards.fingerprint,
        "seed": options.seed,
        "looked_at": len(own),
        "all": manifest_figures(shards),
        "look_alikes": look_alikes(own.hashes),
    }
    if classifier is not None:
        figures["extractor"] = _describe_extractor(classifier, own)
        figures["seen_as"] = measure_agreement(own, shards.class_names)
    if own.features is not None and own.condition is not None:
        groups = own.condition.argmax(axis=1)
        figures["class_spread"] = class_spread(own.features, groups, options.seed)
    if inputs.reference is not None:
        reference = measure(inputs.reference, _name(inputs.reference))
        figures["reference_look_alikes"] = look_alikes(reference.hashes)
        candidates = [own]
        if inputs.uniform is not None:
            candidates.append(measure(inputs.uniform, "uniform samples"))
        figures["distances"] = compare_sets(reference, candidates, options.seed)
        inputs.notes += _doubts(figures)
    progress.close()
    figures["notes"] = inputs.notes
    return Assessment(shards, own, figures, inputs.target)


def _describe_extractor(classifier: Classifier, samples: SampleSet) -> dict[str, Any]:
    """The classifier that the figures were measured with; figures of another one are not comparable."""
    description = describe_classifier(classifier)
    return {
        "name": f"{description['arch']} {description['sha256'][:12]}",
        **description,
        "features": None if samples.features is None else int(samples.features.shape[1]),
    }


def _size(what: ShardSet | Target) -> int:
    return what.samples if isinstance(what, ShardSet) else len(what.train)


def _name(reference: ShardSet | Target) -> str:
    if isinstance(reference, ShardSet):
        return f"samples in {Path(reference.store.root).name}"
    return f"training images of {reference.name}"


def _doubts(figures: dict[str, Any]) -> list[str]:
    """Notes on distances that are not reliable."""
    dimensions = figures["extractor"]["features"]
    reference = figures["distances"][0]["to"]
    fewest = min(min(row["samples"]) for row in figures["distances"] if row["to"] == reference)
    if fewest >= 2 * dimensions:
        return []
    return [
        f"With {fewest} samples for {dimensions} feature dimensions the Frechet distance is mostly bias; read the kernel distance."
    ]


@dataclass
class Inputs:
    """What a request names, opened before the long work begins. `notes` says what is left out and why."""

    shards: ShardSet
    uniform: ShardSet | None
    classifier: Classifier | None
    reference: ShardSet | Target | None
    target: Target | None
    notes: list[str] = field(default_factory=list)


def open_inputs(directory: str, options: ReportOptions) -> Inputs:
    """Open what a request names.

    Raises:
        UserError: something that the user typed cannot be opened or does not fit.
    """
    shards = ShardSet.open(directory)
    plan = read_plan(Store(directory))
    uniform = None if options.uniform is None else _open_uniform(shards, options.uniform)
    notes: list[str] = []
    classifier = _open_classifier(shards, plan, options, notes)
    target = _open_target(plan, options.reference, notes) if shards.kind == "pseudo" else None
    reference: ShardSet | Target | None = target
    if options.reference == NONE:
        reference = None
    elif options.reference is not None:
        reference = _open_reference(options.reference)
    if uniform is not None and reference is None:
        raise UserError("--uniform is compared by distances to a reference; give one with --reference")
    if reference is not None and (classifier is None or not has_features(classifier)):
        missing = "no classifier" if classifier is None else "no linear head to take features from"
        if options.reference is not None or uniform is not None:
            raise UserError(
                f"distances to a reference need the source classifier's features and there is {missing}; name one with --classifier"
            )
        notes.append(f"No distances: there is {missing}.")
        reference = None
    return Inputs(shards, uniform, classifier, reference, target, notes)


def _open_classifier(
    shards: ShardSet, plan: Plan, options: ReportOptions, notes: list[str]
) -> Classifier | None:
    """The classifier that was typed, else the one that the directory was made with, None if that cannot be opened.

    Raises:
        UserError: what was typed cannot be opened, or the plan names code that must be typed.
    """
    typed = options.planned
    if typed.classifier == NONE:
        notes.append("No figures of the source classifier: switched off with --classifier none.")
        return None
    spec = planned_spec(plan.load, typed, options.device, classifier_only=True)
    try:
        classifier = open_classifier(spec, shards.num_classes, shards.class_names)
    except UserError as error:
        if typed.classifier is not None or typed.source is not None:
            raise
        # The reason may contain paths of this machine; the notes are published, so it goes to the terminal only.
        print(f"note: {error}", file=sys.stderr)
        notes.append("No figures of the source classifier: it could not be opened.")
        return None
    planned = (plan.condition or {}).get("classifier") or plan.score
    if planned and planned["sha256"] != describe_classifier(classifier)["sha256"]:
        notes.append("The classifier of these figures is not the one that the directory was made with.")
    return classifier


def _open_target(plan: Plan, typed: str | None, notes: list[str]) -> Target | None:
    """The target that conditioned a pseudo set; None if another reference was typed or it is no longer there."""
    assert plan.target is not None
    name = str(plan.target["name"])
    spec = planned_target(plan.load, name, typed)
    if spec is None:
        notes.append(f"The target {name} was not opened because --reference names something else.")
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
