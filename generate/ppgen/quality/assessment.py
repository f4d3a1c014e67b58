"""From a shard directory to its quality figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ppcore.classifiers import Classifier
from ppcore.console import Progress
from ppcore.shards import ShardSet
from ppcore.targets import Target
from ppgen.quality.agreement import measure_agreement
from ppgen.quality.comparison import class_spread, compare_sets
from ppgen.quality.duplicates import look_alikes
from ppgen.quality.features import SampleSet, measure_images, measure_shards
from ppgen.quality.inputs import ReportRequest, open_inputs
from ppgen.quality.manifest import manifest_figures
from ppgen.sources import describe_classifier


@dataclass
class Assessment:
    """The figures, and what the page shows besides them.

    Attributes:
        figures: content of quality.json.
        target: of a pseudo set, where it could be opened.
    """

    shards: ShardSet
    samples: SampleSet
    figures: dict[str, Any]
    target: Target | None = None


def assess(request: ReportRequest) -> Assessment:
    """Measure; writes nothing.

    Raises:
        UserError: something that was asked for by name cannot be had or does not fit.
    """
    inputs = open_inputs(request)
    shards, classifier = inputs.shards, inputs.classifier
    sets = [s for s in (shards, inputs.uniform, inputs.reference) if s is not None]
    progress = Progress(sum(min(request.samples, _size(s)) for s in sets), "images", label="report")

    def measure(images: ShardSet | Target, name: str) -> SampleSet:
        how_many = request.samples, request.seed
        if isinstance(images, ShardSet):
            return measure_shards(images, classifier, *how_many, progress.advance, name=name)
        return measure_images(images.train, classifier, *how_many, progress.advance, name=name)

    own = measure(shards, "pseudo samples" if shards.kind == "pseudo" else "synthetic samples")
    figures: dict[str, Any] = {
        "kind": shards.kind,
        "source": shards.plan["source"]["name"],
        "fingerprint": shards.fingerprint,
        "seed": request.seed,
        "looked_at": len(own),
        "all": manifest_figures(shards),
        "look_alikes": look_alikes(own.hashes),
    }
    if classifier is not None:
        figures["extractor"] = describe_extractor(classifier, own)
        figures["seen_as"] = measure_agreement(own, shards.class_names)
    if own.features is not None and own.condition is not None:
        groups = own.condition.argmax(axis=1)
        figures["class_spread"] = class_spread(own.features, groups, request.seed)
    if inputs.reference is not None:
        reference = measure(inputs.reference, _name(inputs.reference))
        figures["reference_look_alikes"] = look_alikes(reference.hashes)
        candidates = [own]
        if inputs.uniform is not None:
            candidates.append(measure(inputs.uniform, "uniform samples"))
        figures["distances"] = compare_sets(reference, candidates, request.seed)
        inputs.notes += _doubts(figures)
    progress.close()
    figures["notes"] = inputs.notes
    return Assessment(shards, own, figures, inputs.target)


def describe_extractor(classifier: Classifier, samples: SampleSet) -> dict[str, Any]:
    """Whose features and probabilities the figures are made of; those of another one are not comparable."""
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
    """What a reader must know before believing a distance."""
    dimensions = figures["extractor"]["features"]
    reference = figures["distances"][0]["to"]
    fewest = min(min(row["samples"]) for row in figures["distances"] if row["to"] == reference)
    if fewest >= 2 * dimensions:
        return []
    return [
        f"With {fewest} samples for {dimensions} feature dimensions the Frechet distance is mostly bias; read the kernel distance."
    ]
