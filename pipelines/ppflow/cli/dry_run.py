"""`ppflow run --dry-run`: every stage with its size, what it needs and its cost, before anything runs."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ppcore.console import format_duration
from ppcore.targets import NAMED, load_target, target_name, target_state
from ppflow.cli.experiment import RunOptions, open_recipe
from ppflow.jobs import Graph, StageJob, StageResult, expand, find_done
from ppflow.recipe import Rates
from ppflow.runner import check_job, training_config
from ppgen.cli import read_options
from ppgen.options import EstimateOptions
from ppgen.plan import format_bytes, guess_bytes, parse_classes
from ppgen.sources import known_ids, source_kit
from ppgen.sources.protocol import BANK, is_code
from pptrain.config import fine_tuning_rule, method_name, pre_training_rule
from pptrain.engine import seconds_per_image
from pptrain.methods import SemiSupervised, make_method

_NUMBERS = tuple(map(str, range(1000)))  # the kits without class names are of ImageNet
_SOURCE, _PER_CLASS, _PER_IMAGE = "dit-xl-2-256", 1300, 10  # defaults of ppgen
_GENERATION = ("synth", "pseudo")
_OF_GENERATOR = ("sampler", "dtype", "device", "format", "workers", "threads", "trust_code", "batch_size")
"""Options that change the speed of a source."""


@dataclass(frozen=True)
class Size:
    """What a job will make.

    Attributes:
        text: in words.
        images: made by a generation stage, or read by a training stage over its whole length; None where it is not known.
        bytes: on disk, of a generation stage; None where it is not known.
    """

    text: str
    images: int | None = None
    bytes: int | None = None


def job_sizes(graph: Graph) -> dict[str, Size]:
    """Digest -> size of every job. Reads local targets and kits; downloads nothing."""
    sizes: dict[str, Size] = {}
    for digest, job in graph.jobs.items():  # each comes after the jobs that it needs
        if job.kind == "synth":
            sizes[digest] = _synth_size(job)
        elif job.kind == "pseudo":
            sizes[digest] = _pseudo_size(job)
        elif job.kind == "train":
            shards = [sizes[need].images for need in job.needs if graph.jobs[need].kind == "synth"]
            sizes[digest] = _training_size(job, shards)
        elif job.kind == "refit":
            images = max((sizes[need].images or 0 for need in job.needs), default=0)
            text = f"the best of {len(job.needs)} on validation images, on all labels"
            sizes[digest] = Size(text, images or None)
        else:
            sizes[digest] = Size("one ONNX file, measured in onnxruntime")
    return sizes


def _synth_size(job: StageJob) -> Size:
    each, wanted = int(job.settings.get("per_class", _PER_CLASS)), job.settings.get("classes")
    source = str(job.settings.get("source", _SOURCE))
    names = _class_names(source)
    if not names and wanted is None:
        return Size(f"all classes x {each:,}")
    names = names or _NUMBERS
    ids = known_ids(names, source_kit(source))
    count = len(parse_classes(None if wanted is None else str(wanted), names, ids))
    images = count * each
    return Size(f"{count:,} classes x {each:,} = {images:,} images", images, _bytes(job, images))


def _pseudo_size(job: StageJob) -> Size:
    target, labels = str(job.settings.get("target", "")), job.settings.get("labels_per_class")
    each, count = int(job.settings.get("per_image") or _PER_IMAGE), job.settings.get("count")
    known = target_size(target)
    if known is None:
        conditions, text = None, f"? images of {target}"
    else:
        conditions = known[0] * int(labels) if labels else known[1]
        text = f"{conditions:,} images of {target}"
    if count is not None:
        return Size(f"{text}, {int(count):,} images", int(count), _bytes(job, int(count)))
    if conditions is None:
        return Size(text)
    images = conditions * each
    return Size(f"{text} x {each:,} = {images:,} images", images, _bytes(job, images))


def _training_size(job: StageJob, shards: Sequence[int | None]) -> Size:
    """Size of a training stage; `shards` are the images of each synth stage that it needs."""
    config = training_config(job)
    if config.data.target:
        known = target_size(config.data.target)
        if known is None:
            return Size(f"{config.data.target} (size not known before it is here)")
        classes, train, test = known
        images = classes * config.data.labels_per_class if config.data.labels_per_class else train
        text = f"{images:,} labelled of {train:,} train, {test:,} test images of {config.data.target}"
    else:
        counts = [count for count in shards if count is not None]
        if not counts or len(counts) < len(config.data.shards):
            return Size("shards")
        images = sum(counts)
        text = f"{images:,} synthetic images"
    if config.data.shards:
        rule = pre_training_rule(images, config.optim.batch_size)
    else:
        rule = fine_tuning_rule(images, conditions=method_name(config) == "condition")
    batch = config.optim.batch_size or rule.batch_size
    epochs = config.optim.epochs
    steps = config.optim.steps or (-(-int(epochs * images) // batch) if epochs else rule.steps)
    method = make_method(method_name(config), config.method.options)
    unlabelled = method.mu if isinstance(method, SemiSupervised) else 0.0
    return Size(f"{text}, {steps:,} steps of {batch}", int(steps * batch * (1 + unlabelled)))


def _class_names(source: str) -> tuple[str, ...]:
    """Names of the classes of a source, or their numbers; empty if only the source itself knows."""
    if source.startswith("bank:"):
        known = target_size(source.removeprefix("bank:"))
        return () if known is None else tuple(map(str, range(known[0])))
    kit = source_kit(source)
    return () if kit is None else kit.class_names or _NUMBERS


def _bytes(job: StageJob, images: int) -> int | None:
    source = str(job.settings.get("source", _SOURCE))
    kit = source_kit(source)
    if kit is None:
        return None
    classes, image_format = len(_class_names(source)), str(job.settings.get("format", kit.image_format))
    return images * guess_bytes(
        job.kind,
        resolution=kit.resolution,
        channels=kit.channels,
        num_classes=classes,
        image_format=image_format,
    )


@functools.cache
def target_size(target: str) -> tuple[int, int, int] | None:
    """(classes, training images, test images) of a target: the official sizes if it has a known name, else those of the local
    images; None if there are none."""
    known = NAMED.get(target_name(target))
    if known is not None:
        return known.classes, known.train, known.test
    if "=" not in target and not Path(target).exists():
        return None
    local = load_target(target)
    return len(local.classes), len(local.train), len(local.test)


def print_dry_run(name: str, options: RunOptions) -> None:
    """Print every stage with its size, what it needs and its cost; write nothing.

    Raises:
        UserError: the recipe or the settings of a job are wrong.
    """
    recipe, root = open_recipe(name, options)
    graph = expand(recipe, root)
    for job in graph.jobs.values():
        check_job(job)
    done, sizes = find_done(graph), job_sizes(graph)
    groups: dict[tuple[str, Size], list[StageJob]] = {}
    for digest, job in graph.jobs.items():
        groups.setdefault((job.stage, sizes[digest]), []).append(job)
    points = f" at {len(recipe.cells)} points of the grid" if len(recipe.cells) > 1 else ""
    print(
        f"{recipe.title}: {len(recipe.rows)} rows{points}, {len(recipe.seeds)} seed{'s' if len(recipe.seeds) > 1 else ''}; "
        f"{len(graph.jobs)} jobs, {len(done)} of them done, into {root}"
    )
    pace = _measured_pace(graph, sizes, done)
    meter = _Meter(graph)
    total, unknown, stored = 0.0, 0, 0
    for (_, size), jobs in groups.items():
        left = sum(job.digest not in done for job in jobs)
        seconds = _seconds(jobs[0], size, pace, recipe.rates, meter) if left else 0.0
        print(_group_text(jobs, size, graph, left, seconds))
        unknown += left if seconds is None else 0
        total += left * (seconds or 0.0)
        stored += left * (size.bytes or 0)
    left = len(graph.jobs) - len(done)
    if left:
        text = f"{left} jobs are left: about {_hours(total)} of one worker"
        text += f", {format_bytes(stored)} of images" if stored else ""
        print(text + (f"; without {unknown} jobs whose time is not known" if unknown else ""))
        if recipe.rates.source and total:
            print(f"rates: {recipe.rates.source}")
        if meter.used:
            print("hours are those of a few images and training steps, measured now on this machine")
    else:
        print("nothing is left to do")
    print("nothing was written; the same command without --dry-run runs it")


def _group_text(jobs: Sequence[StageJob], size: Size, graph: Graph, left: int, seconds: float | None) -> str:
    """The line about the jobs of one stage that have the same size; `seconds` are those of one job."""
    first, count = jobs[0], len(jobs)
    parts = [f"  {first.stage} ({first.kind}): {f'{count} x ' if count > 1 else ''}{size.text}"]
    needs = dict.fromkeys(graph.jobs[need].stage for job in jobs for need in job.needs)
    if needs:
        parts.append(f"needs {', '.join(needs)}")
    if first.resources.gpus or first.resources.cpus != 1:
        parts.append(f"{first.resources.cpus:g} CPUs, {first.resources.gpus:g} GPUs each")
    if left < count:
        parts.append(f"{count - left} done" if left else "done")
    if left:
        cost = "hours not known" if seconds is None else _hours(seconds * left)
        parts.append(cost if size.bytes is None else f"{cost}, {format_bytes(size.bytes * left)}")
    return "; ".join(parts)


def _seconds(
    job: StageJob, size: Size, pace: Mapping[str, float], rates: Rates, meter: _Meter
) -> float | None:
    """Seconds of a job: by the finished jobs of its stage, else by the rates of the recipe, else measured now; None if not known."""
    if job.kind == "export":
        return 0.0
    if not size.images:
        return None
    rate = rates.images_per_s if job.kind in _GENERATION else rates.train_images_per_s
    each = pace.get(job.stage) or (1 / rate if rate else meter.seconds_per_image(job))
    return None if each is None else size.images * each


def _is_here(target: str) -> bool:
    named, place = NAMED.get(target_name(target)), target.partition("=")[2]
    if named is None:
        return target_size(target) is not None
    return Path(place).exists() if place else target_state(named).local


class _Meter:
    """Measures a few images of each source and a few steps of each network, once; downloads nothing.

    Attributes:
        used: whether it has measured anything.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph, self._known = graph, dict[tuple[object, ...], float]()
        targets = (str(job.settings.get("data.target", "")) for job in graph.jobs.values())
        self._target = next(filter(None, targets), "")

    @property
    def used(self) -> bool:
        return bool(self._known)

    def seconds_per_image(self, job: StageJob) -> float | None:
        """Seconds of one process for each image of a job; None if its source, target or network is not on this machine."""
        if job.kind in _GENERATION:
            return self._generation(job)
        if job.kind == "refit":
            each = [self.seconds_per_image(self._graph.jobs[need]) for need in job.needs]
            return max(filter(None, each), default=None)
        return self._training(job)

    def _generation(self, job: StageJob) -> float | None:
        """By the generator alone: conditions do not change its speed."""
        source = str(job.settings.get("source", _SOURCE))
        kit = source_kit(source)
        place = source if kit is None else kit.generator
        if not (place.startswith(BANK) or is_code(place) or Path(place).exists()):
            return None
        given = {name: job.settings[name] for name in _OF_GENERATOR if name in job.settings}
        options = {"workers": 1, **given, "source": source, "per_class": 1, "out": "memory://dry-run"}
        key = ("generation", *map(str, options.values()))
        if key not in self._known:
            from ppgen.cli.generation import estimate  # loads torch

            rate = estimate(read_options("synth", options), EstimateOptions()).rate
            assert rate is not None
            self._known[key] = 1 / rate.images_per_s
        return self._known[key]

    def _training(self, job: StageJob) -> float | None:
        config = training_config(job)
        target = config.data.target or self._target
        if not _is_here(target):
            return None
        data, threads = replace(config.data, target=target), max(1, int(job.resources.cpus))
        key = (
            config.model.arch,
            data.resolution,
            data.channels,
            target,
            config.optim.batch_size,
            config.views.labeled,
            threads,
        )
        if key not in self._known:
            import torch

            torch.set_num_threads(threads)
            self._known[key] = seconds_per_image(replace(config, data=data))
        return self._known[key]


def _measured_pace(
    graph: Graph, sizes: Mapping[str, Size], done: Mapping[str, StageResult]
) -> dict[str, float]:
    """Stage -> seconds an image, over its finished jobs."""
    sums: dict[str, tuple[float, int]] = {}
    for digest, result in done.items():
        images = sizes[digest].images
        if result.seconds and images:
            stage = graph.jobs[digest].stage
            before = sums.get(stage, (0.0, 0))
            sums[stage] = before[0] + result.seconds, before[1] + images
    return {stage: seconds / images for stage, (seconds, images) in sums.items()}


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} hours" if seconds >= 3600 else format_duration(seconds)
