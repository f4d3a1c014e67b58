"""From a shard directory to its quality figures: what to look at, with which classifier, against which reference."""

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
from ppgen.quality import agreement as quality
from ppgen.quality.agreement import Sight
from ppgen.quality.features import Seen, has_features, look_at_images, look_at_shards
from ppgen.sources import SourceSpec, describe_classifier, open_classifier


@dataclass(frozen=True)
class Question:
    """What to report on.

    Attributes:
        directory: finished shard directory.
        reference: shard directory or target spec to measure distances to; by default a pseudo set's own target.
        uniform: synth directory, or pseudo directory of uniform conditions, to set beside the samples.
        classifier: source classifier; by default the one the directory was made with.
        source: where the source is now, if it has moved.
        samples: most images to look at in each set.
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
class Findings:
    """The figures, and what the page shows besides them.

    Attributes:
        figures: content of quality.json.
        target: of a pseudo set, where it could be opened.
    """

    shards: ShardSet
    seen: Seen
    figures: dict[str, Any]
    target: Target | None = None


@dataclass
class _Opened:
    """The parts of a question, opened before the long work begins; `notes` says what had to be left out and why."""

    shards: ShardSet
    uniform: ShardSet | None
    classifier: Classifier | None
    reference: ShardSet | Target | None
    target: Target | None
    notes: list[str] = field(default_factory=list)


def assess(question: Question) -> Findings:
    """Measure; writes nothing.

    Raises:
        UserError: something that was asked for by name cannot be had or does not fit.
    """
    opened = _open(question)
    shards, classifier = opened.shards, opened.classifier
    sets = [s for s in (shards, opened.uniform, opened.reference) if s is not None]
    progress = Progress(sum(min(question.samples, _size(s)) for s in sets), "images", label="report")

    def look(what: ShardSet | Target) -> Seen:
        if isinstance(what, ShardSet):
            return look_at_shards(what, classifier, question.samples, question.seed, progress.advance)
        return look_at_images(what.train, classifier, question.samples, question.seed, progress.advance)

    own = Sight("pseudo samples" if shards.kind == "pseudo" else "synthetic samples", look(shards))
    figures: dict[str, Any] = {
        "kind": shards.kind,
        "source": shards.plan["source"]["name"],
        "fingerprint": shards.fingerprint,
        "seed": question.seed,
        "looked_at": len(own.seen),
        "all": quality.from_manifest(shards),
        "look_alikes": quality.look_alikes(own.seen),
    }
    if classifier is not None:
        figures["extractor"] = describe_extractor(classifier, own.seen)
        figures["seen_as"] = quality.agreement(own.seen, shards.class_names)
    if own.seen.features is not None and own.seen.condition is not None:
        groups = own.seen.condition.argmax(axis=1)
        figures["class_spread"] = quality.class_spread(own.seen.features, groups, question.seed)
    if opened.reference is not None:
        reference = Sight(_name(opened.reference), look(opened.reference))
        figures["reference_look_alikes"] = quality.look_alikes(reference.seen)
        candidates = [own]
        if opened.uniform is not None:
            candidates.append(Sight("uniform samples", look(opened.uniform)))
        figures["distances"] = quality.compare(reference, candidates, question.seed)
        opened.notes += _doubts(figures)
    progress.close()
    figures["notes"] = opened.notes
    return Findings(shards, own.seen, figures, opened.target)


def describe_extractor(classifier: Classifier, seen: Seen) -> dict[str, Any]:
    """Whose features and probabilities the figures are made of; those of another one are not comparable."""
    told = describe_classifier(classifier)
    return {
        "name": f"{told['arch']} {told['sha256'][:12]}",
        **told,
        "features": None if seen.features is None else int(seen.features.shape[1]),
    }


def _open(question: Question) -> _Opened:
    shards = ShardSet.open(question.directory)
    uniform = None if question.uniform is None else _open_uniform(shards, question.uniform)
    notes: list[str] = []
    classifier = _open_classifier(shards, question, notes)
    target = _open_target(shards, notes) if shards.kind == "pseudo" else None
    reference: ShardSet | Target | None = target
    if question.reference is not None:
        reference = _open_reference(question.reference)
    if uniform is not None and reference is None:
        raise UserError("--uniform is set beside the samples against a reference; give one with --reference")
    if reference is not None and (classifier is None or not has_features(classifier)):
        missing = "no classifier" if classifier is None else "no linear head to take features from"
        if question.reference is not None or uniform is not None:
            raise UserError(
                f"distances to a reference need the source classifier's features and there is {missing}; name one with --classifier"
            )
        notes.append(f"No distances: there is {missing}.")
        reference = None
    return _Opened(shards, uniform, classifier, reference, target, notes)


def _open_classifier(shards: ShardSet, question: Question, notes: list[str]) -> Classifier | None:
    """The named classifier, or the one the directory was made with where it can be had."""
    load = dict(shards.plan.get("load") or {})
    if question.classifier is not None:
        load["classifier"] = question.classifier
    if not load.get("source"):
        load["source"] = shards.plan["source"]["name"]
    spec = SourceSpec.from_hint(load, question.device, question.source)
    try:
        classifier = open_classifier(spec, shards.num_classes, shards.class_names)
    except UserError as error:
        if question.classifier is not None or question.source is not None:
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


def _size(what: ShardSet | Target) -> int:
    return what.samples if isinstance(what, ShardSet) else len(what.train)


def _name(reference: ShardSet | Target) -> str:
    if isinstance(reference, ShardSet):
        return f"samples in {Path(reference.store.root).name}"
    return f"training images of {reference.name}"


def _doubts(figures: dict[str, Any]) -> list[str]:
    """What a reader must know before believing a distance."""
    dimensions = figures["extractor"]["features"]
    reference = figures["distances"][0]["to"]
    fewest = min(min(row["samples"]) for row in figures["distances"] if row["to"] == reference)
    if fewest >= 2 * dimensions:
        return []
    return [
        f"With {fewest} samples for {dimensions} feature dimensions the Frechet distance is mostly bias; read the kernel distance."
    ]
