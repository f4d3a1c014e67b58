"""How large a job is before anything runs: images, steps and bytes from its settings and from what is known of source and target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ppcore.kits import KITS, get_kit
from ppcore.targets import NAMED, load_target, target_name
from ppflow.jobs import Graph, Job
from ppgen.plan import guess_bytes, parse_classes
from pptrain.config import (
    Choice,
    Situation,
    TrainConfig,
    choose_fine_tuning,
    choose_pre_training,
    load_config,
    method_name,
)

_IMAGENET = 1000  # classes of the kits whose names come with their weights
_PER_CLASS, _PER_IMAGE = 1300, 10  # ppgen's own


@dataclass(frozen=True)
class Task:
    """Classes, training and test images of a target."""

    classes: int
    train: int
    test: int


@dataclass(frozen=True)
class Size:
    """What a job will make.

    Attributes:
        text: in words.
        images: of a generation, or that a training will look at; None where it cannot be told.
        steps: of a training.
        bytes: on disk.
    """

    text: str
    images: int | None = None
    steps: int | None = None
    bytes: int | None = None


class Sizes:
    """Sizes of the jobs of a graph. Reads local targets and kits; downloads nothing."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._folders = {str(job.folder): job for job in graph.jobs.values()}
        self._tasks: dict[str, Task | None] = {}

    def of(self, job: Job) -> Size:
        if job.kind == "synth":
            return self._synth(job.settings)
        if job.kind == "pseudo":
            return self._pseudo(job.settings)
        if job.kind == "train":
            return self._train(job)
        if job.kind == "refit":
            return self._refit(job)
        return Size("one ONNX file, measured in onnxruntime")

    def task(self, target: str) -> Task | None:
        """None for a target whose images are not here and that nobody has told the size of."""
        if target not in self._tasks:
            self._tasks[target] = _read_task(target)
        return self._tasks[target]

    def _synth(self, settings: Mapping[str, Any]) -> Size:
        total, each = self._classes(settings), int(settings.get("per_class", _PER_CLASS))
        names = [str(n) for n in range(total)] if total else []
        wanted = settings.get("classes")
        if wanted is not None and not total:
            names = [str(n) for n in range(_IMAGENET)]
        count = len(parse_classes(None if wanted is None else str(wanted), self._names(settings) or names))
        if not count:
            return Size(f"all classes x {each:,}")
        images = count * each
        return Size(
            f"{count:,} classes x {each:,} = {images:,} images",
            images,
            bytes=self._bytes("synth", settings, images),
        )

    def _pseudo(self, settings: Mapping[str, Any]) -> Size:
        target, labels = str(settings.get("target", "")), settings.get("labels_per_class")
        task = self.task(target)
        sources = None if task is None else task.classes * int(labels) if labels else task.train
        images = settings.get("count")
        each = int(settings.get("per_image") or _PER_IMAGE)
        if images is None and sources is not None:
            images = sources * each
        known = "?" if sources is None else f"{sources:,}"
        text = f"{known} images of {target}"
        text += f" x {each:,} = {images:,} images" if images is not None and "count" not in settings else ""
        text += f", {int(images):,} images" if images is not None and "count" in settings else ""
        size = None if images is None else self._bytes("pseudo", settings, int(images))
        return Size(text, None if images is None else int(images), bytes=size)

    def _train(self, job: Job) -> Size:
        config = load_config(overrides={**job.settings, "out": str(job.folder)})
        labelled, told = self._training_images(job, config.data.labels_per_class)
        if labelled is None:
            return Size(told)
        choice = self._choice(config, labelled)
        batch = config.optim.batch_size or choice.batch_size
        epochs = config.optim.epochs
        steps = config.optim.steps or (-(-int(epochs * labelled) // batch) if epochs else choice.steps)
        mu = float(config.method.options.get("mu", 1.0)) if config.data.unlabeled else 0.0
        return Size(f"{told}, {steps:,} steps of {batch}", int(steps * batch * (1 + mu)), steps)

    @staticmethod
    def _choice(config: TrainConfig, images: int) -> Choice:
        """What the rule of defaults says of length and batch."""
        if config.data.shards:
            return choose_pre_training(images, config.optim.batch_size)
        return choose_fine_tuning(Situation(images, conditions=method_name(config) == "condition"))

    def _refit(self, job: Job) -> Size:
        sizes = [self.of(self._graph.jobs[digest]) for digest in job.needs]
        largest = max(sizes, key=lambda size: size.images or 0)
        return Size(
            f"the best of {len(sizes)} on validation images, on all labels", largest.images, largest.steps
        )

    def _training_images(self, job: Job, labels: int) -> tuple[int | None, str]:
        target = str(job.settings.get("data.target") or "")
        if target:
            task = self.task(target)
            if task is None:
                return None, f"{target} (size not known before it is here)"
            images = task.classes * labels if labels else task.train
            return (
                images,
                f"{images:,} labelled of {task.train:,} train, {task.test:,} test images of {target}",
            )
        made = [self._folders.get(str(folder)) for folder in job.settings.get("data.shards", ())]
        counts = [None if made_by is None else self.of(made_by).images for made_by in made]
        if not counts or None in counts:
            return None, "shards"
        total = sum(count for count in counts if count is not None)
        return total, f"{total:,} synthetic images"

    def _classes(self, settings: Mapping[str, Any]) -> int:
        """0 where only the source itself knows."""
        names = self._names(settings)
        return len(names) or (_IMAGENET if _source(settings) in KITS else 0)

    def _names(self, settings: Mapping[str, Any]) -> tuple[str, ...]:
        source = _source(settings)
        if source.startswith("bank:"):
            task = self.task(source.removeprefix("bank:"))
            return () if task is None else tuple(map(str, range(task.classes)))
        return get_kit(source).class_names if source in KITS else ()

    def _bytes(self, kind: str, settings: Mapping[str, Any], images: int) -> int | None:
        source = _source(settings)
        if source not in KITS:
            return None
        kit = get_kit(source)
        each = guess_bytes(
            kind,
            resolution=kit.resolution,
            channels=kit.channels,
            num_classes=self._classes(settings),
            image_format=str(settings.get("format", kit.image_format)),
        )
        return images * each


def _source(settings: Mapping[str, Any]) -> str:
    return str(settings.get("source", "dit-xl-2-256"))


def _read_task(target: str) -> Task | None:
    """The official sizes of a target known by name, wherever its images are; else those of local images."""
    known = NAMED.get(target_name(target))
    if known is not None:
        return Task(known.classes, known.train, known.test)
    if "=" not in target and not Path(target).exists():
        return None
    found = load_target(target)
    return Task(len(found.classes), len(found.train), len(found.test))
