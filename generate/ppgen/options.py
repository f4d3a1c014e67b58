"""The options of ppgen's commands, each declared once. Plan and engines take these objects as they are.

Nothing here loads torch: `ppgen --help` imports this module.
"""

from __future__ import annotations

import math
import re
from dataclasses import MISSING, asdict, dataclass, field
from typing import Annotated, Any, Literal, get_args

import typer

from ppcore.errors import UserError, require_positive
from ppcore.program import EXPERTS, HOW_MUCH, MACHINES, READING, WHAT, WHERE_TO, option

DEFAULT_SOURCE = "dit-xl-2-256"
PRODUCT_SOURCE = "var-d16-256"  # recommended where the licence of a source forbids products
Mode = Literal["soft", "draw", "uniform"]
MODES: tuple[Mode, ...] = get_args(Mode)
ImageFormat = Literal["jpg", "png", "webp"]
FORMATS: tuple[ImageFormat, ...] = get_args(ImageFormat)

Directory = Annotated[str, typer.Argument(help="Shard directory, path or URL.")]
Price = Annotated[
    float | None, option(HOW_MUCH, "Price of one worker (one GPU) for an hour. [default: no cost is shown]")
]
Device = Annotated[str, option(MACHINES, "Device: auto, cpu, cuda or cuda:N.")]
_TRUST_CODE = "Run the code (module:callable) that a kit, a model directory or a plan names."
AllowLicence = Annotated[
    list[str] | None,
    option(
        WHAT,
        "Refuse weights of any other licence (SPDX name, or the word commercial); repeatable. [default: any licence]",
    ),
]
_Source = Annotated[str, option(WHAT, "Kit, model directory, hub id or module:callable (see ppgen sources).")]
_Dtype = Annotated[
    str | None, option(MACHINES, "Number type: float32, bfloat16 or float16. [default: by device]")
]

ENGINES = ("inline", "ray")


def _option(group: str, text: str, default: Any = None, *names: str) -> Any:
    """A field of a dataclass of options; :func:`ppgen.cli.flatten.flatten` makes it an option of the command line."""
    return field(default=default, metadata={"option": option(group, text, *names)})


def require_counts(options: object, *names: str) -> None:
    """Raise UserError if one of these options is given and not above zero."""
    for name in names:
        number = getattr(options, name)
        if number is not None:
            require_positive(f"--{name.replace('_', '-')}", number)


@dataclass(frozen=True)
class EngineOptions:
    """On which workers shards are made. Changes no byte. Raises UserError for values that contradict each other."""

    workers: int | None = _option(
        MACHINES,
        "Worker processes. [default: the CPU cores for small images on a CPU, else 1; Ray: all that have room]",
    )
    min_workers: int | None = _option(
        MACHINES, "Ray: request at least so many workers, so that the cluster grows. [default: 1]"
    )
    max_workers: int | None = _option(MACHINES, "Ray: maximum number of workers. [default: no limit]")
    threads: int | None = _option(
        MACHINES, "CPU threads of a worker. [default: 1 for small images, else all]"
    )
    engine: str = _option(MACHINES, "Where shards are made: inline (this machine) or ray.", "inline")
    cpus_per_worker: float | None = _option(MACHINES, "Ray: CPUs reserved for each worker. [default: 1]")
    gpus_per_worker: float | None = _option(
        MACHINES, "Ray: GPUs reserved for each worker, may be a fraction. [default: 1 if there are GPUs]"
    )
    address: str | None = _option(
        MACHINES, "Ray: address of a running cluster, or auto. [default: start a local one]"
    )

    metrics_file: str | None = _option(
        EXPERTS, "Write metrics to this .prom file, for node-exporter's textfile collector. [default: none]"
    )

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise UserError(f"unknown engine {self.engine!r}; expected {' or '.join(ENGINES)}")
        for name in ("min_workers", "max_workers", "cpus_per_worker", "gpus_per_worker", "address"):
            if getattr(self, name) is not None and self.engine != "ray":
                option = name.replace("_", "-")
                raise UserError(f"--{option} is an option of Ray; add --engine ray or leave it out")
        require_counts(self, "workers", "min_workers", "max_workers", "threads")
        if self.workers is not None and (self.min_workers or self.max_workers):
            raise UserError(
                "--workers sets an exact number; give it alone, or give --min-workers and --max-workers instead"
            )
        if (self.min_workers or 1) > (self.max_workers or math.inf):
            raise UserError(
                f"--min-workers {self.min_workers} is above --max-workers {self.max_workers}; give the smaller number first"
            )


HERE = EngineOptions()
"""On this machine, with the default number of workers."""


@dataclass(frozen=True)
class ShardOptions:
    """Where shards are written and how samples are stored. All but `out` and `part` are in the plan. Raises UserError."""

    out: str | None = _option(WHERE_TO, "Shard directory, path or URL. [default: under runs/]")
    seed: int = _option(HOW_MUCH, "Seed of the samples.", 0)
    batch_size: int | None = _option(
        EXPERTS,
        "Samples in a forward pass; changes the last bits of pixels. [default: 100, on a GPU by its memory]",
    )
    samples_per_shard: int | None = _option(
        WHERE_TO, "Samples in a shard. [default: by the total, at most 1024]"
    )
    part: str | None = _option(
        MACHINES,
        "I/N: make part I of N of the shards, for N tasks that share the work; see ppgen gather. [default: all shards]",
    )
    image_format: str = _option(
        WHERE_TO,
        "Image format: auto, jpg, png or webp; auto is png up to 64 pixels, else jpg.",
        "auto",
        "--format",
    )
    reproducible: bool = _option(
        EXPERTS,
        "Use deterministic algorithms only: the same bytes in every run on the same hardware; slower.",
        False,
        "--reproducible",
    )
    score: bool = _option(EXPERTS, "Store the confidence of the source classifier for every sample.", False)

    def __post_init__(self) -> None:
        require_counts(self, "batch_size", "samples_per_shard")
        self.part_numbers()
        if self.image_format not in ("auto", *FORMATS):
            raise UserError(f"unknown --format {self.image_format!r}; choose auto, {', '.join(FORMATS)}")

    def part_numbers(self) -> tuple[int, int] | None:
        """(I, N) of `--part I/N`, or None. Raises UserError for anything else."""
        if self.part is None:
            return None
        numbers = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", self.part)
        if numbers is None or not 1 <= int(numbers[1]) <= int(numbers[2]):
            raise UserError(f"--part is {self.part!r}; give I/N with I from 1 to N, such as 2/8")
        return int(numbers[1]), int(numbers[2])


@dataclass(frozen=True)
class SourceOptions:
    """How the source is opened and sampled."""

    classifier: str | None = _option(WHAT, "Source classifier. [default: the kit's]")
    class_map: str | None = _option(
        EXPERTS,
        "JSON or CSV file that maps classes of the classifier to classes of the generator, by name or number. "
        "[default: classes are matched by name]",
    )
    sampler: list[str] | None = _option(
        EXPERTS,
        "Sampler setting NAME=VALUE, such as steps=20 or guidance=1.5; repeatable. [default: the source's settings]",
    )
    revision: str | None = _option(EXPERTS, "Commit of a hub repository. [default: the newest]")
    trust_remote_code: bool = _option(EXPERTS, "Run Python code that is part of a hub repository.", False)
    trust_code: bool = _option(EXPERTS, _TRUST_CODE, False, "--trust-code")
    allow_licence: AllowLicence = None


@dataclass(frozen=True)
class SynthOptions:
    """The options of `ppgen synth`, in the order of its help."""

    source: _Source = DEFAULT_SOURCE
    classes: str | None = _option(
        WHAT, "Classes: N, list, ranges (0-9,20), names or WordNet ids, or @file. [default: all]"
    )
    per_class: int = _option(HOW_MUCH, "Samples of every class; on average, with --like.", 1300)
    like: str | None = _option(
        HOW_MUCH,
        "Make more samples of the classes that the source classifier sees in the training images of this target. [default: as "
        "many of every class]",
    )
    like_share: float = _option(
        EXPERTS,
        "With --like: share of the samples that follows the mean soft label; the others are as many of every class.",
        0.5,
    )
    labels_per_class: int | None = _option(
        EXPERTS, "With --like: use so many training images of each target class. [default: all]"
    )
    label_seed: int | None = _option(
        EXPERTS, "With --like: seed that chooses these images, as pptrain's --seed does. [default: --seed]"
    )
    preview: int | None = _option(
        HOW_MUCH,
        "Draw four samples of so many classes on one picture beside --out, and stop. [default: no preview]",
    )
    shards: ShardOptions = ShardOptions()
    device: Device = "auto"
    dtype: _Dtype = None
    engine_options: EngineOptions = HERE
    source_options: SourceOptions = SourceOptions()

    def __post_init__(self) -> None:
        require_counts(self, "per_class", "preview", "labels_per_class")
        if not 0 < self.like_share <= 1:
            raise UserError(f"--like-share is {self.like_share:g}; give a share above 0, at most 1")
        alone = (self.like_share, self.labels_per_class, self.label_seed) == (0.5, None, None)
        if self.like is None and not alone:
            raise UserError(
                "--like-share, --labels-per-class and --label-seed choose what --like measures; add --like TARGET"
            )


@dataclass(frozen=True)
class ReadingOptions:
    """How a target is read where its files leave a choice."""

    classes_from: str | None = _option(EXPERTS, READING["classes_from"])
    image_column: str | None = _option(EXPERTS, READING["image_column"])
    label_column: str | None = _option(EXPERTS, READING["label_column"])
    split: str | None = _option(EXPERTS, READING["split"])

    def place(self, target: str) -> str:
        """The target with these options behind it. Raises UserError for a value that is not known."""
        from ppcore.targets import with_options  # loads pyarrow

        return with_options(target, asdict(self))


@dataclass(frozen=True)
class PseudoOptions:
    """The options of `ppgen pseudo`, in the order of its help."""

    target: str = _option(
        WHAT,
        "Target images: a name (ppgen targets lists them), NAME=PLACE, or a folder, table or archive of images.",
        MISSING,
    )
    source: _Source = DEFAULT_SOURCE
    labels_per_class: int | None = _option(
        HOW_MUCH, "Use so many training images of each class. [default: all]"
    )
    label_seed: int | None = _option(
        HOW_MUCH, "Seed that chooses these images, as pptrain's --seed does. [default: --seed]"
    )
    per_image: int | None = _option(
        HOW_MUCH, "Samples for every target image. [default: 10 if --count is not given]"
    )
    count: int | None = _option(HOW_MUCH, "Samples in all. [default: by --per-image]")
    condition: str = _option(
        EXPERTS,
        "Condition: soft (the soft label), draw (a class drawn from it), uniform (any class, for comparison).",
        "soft",
    )
    temperature: float | None = _option(
        EXPERTS,
        "Temperature of the source classifier's softmax. [default: 1; lower if more than 16 classes share a soft label]",
    )
    top_k: int | None = _option(EXPERTS, "Keep the k largest probabilities. [default: keep all]")
    reading: ReadingOptions = ReadingOptions()
    shards: ShardOptions = ShardOptions()
    device: Device = "auto"
    dtype: _Dtype = None
    engine_options: EngineOptions = HERE
    source_options: SourceOptions = SourceOptions()

    @property
    def place(self) -> str:
        """The target with the options of its reading."""
        return self.reading.place(self.target)

    def __post_init__(self) -> None:
        if self.per_image is not None and self.count is not None:
            raise UserError(
                "--per-image and --count are both given; give one: samples for every target image, or samples in all"
            )
        require_counts(self, "per_image", "count", "labels_per_class", "top_k", "temperature")
        if self.condition not in MODES:
            raise UserError(f"unknown --condition {self.condition!r}; choose {', '.join(MODES)}")


@dataclass(frozen=True)
class EstimateOptions:
    """The options that `ppgen plan` adds to those of the command it estimates."""

    calibrate: bool = _option(HOW_MUCH, "Sample a few batches to measure the rate.", True)
    price_per_hour: Price = None

    def __post_init__(self) -> None:
        require_price(self.price_per_hour)


def require_price(price_per_hour: float | None) -> None:
    """Raise UserError for a price that is negative or not finite."""
    if price_per_hour is not None and not 0 <= price_per_hour < float("inf"):
        raise UserError(f"--price-per-hour is {price_per_hour}; give a number from zero up")


@dataclass(frozen=True)
class PlannedOptions:
    """The options of commands that open the source of an existing plan (see :mod:`ppgen.sources.planned`)."""

    source: str | None = _option(
        WHAT, "Where the source is now, or the code that the plan names. [default: the source in plan.json]"
    )
    classifier: str | None = _option(WHAT, "Source classifier. [default: the one in plan.json]")
    trust_code: bool = _option(EXPERTS, _TRUST_CODE, False, "--trust-code")


@dataclass(frozen=True)
class VerifyOptions:
    """The options of `ppgen verify`. Raises UserError if `regenerate` is negative."""

    regenerate: int = _option(HOW_MUCH, "Number of random images to sample again and compare.", 0)
    repair: bool = _option(WHAT, "Mark bad shards, so that the next run makes them again.", False, "--repair")
    seed: int = _option(HOW_MUCH, "Seed that chooses the images to sample again.", 0)
    planned: PlannedOptions = PlannedOptions()
    device: Device = "auto"

    def __post_init__(self) -> None:
        if self.regenerate < 0:
            raise UserError(f"--regenerate is {self.regenerate}; give 0 or more")


@dataclass(frozen=True)
class ReportOptions:
    """The options of `ppgen report`. Raises UserError if `samples` is not above zero."""

    reference: str | None = _option(
        WHAT, "Shard directory or target to measure distances to, or none. [default: a pseudo set's target]"
    )
    uniform: str | None = _option(
        WHAT, "Synth directory, or pseudo directory of uniform conditions, to compare with. [default: none]"
    )
    planned: PlannedOptions = PlannedOptions()
    samples: int = _option(HOW_MUCH, "Maximum number of images to measure in each set.", 10_000)
    seed: int = _option(HOW_MUCH, "Seed that chooses these images.", 0)
    device: Device = "auto"
    out: str | None = _option(WHERE_TO, "Directory for the two files. [default: the shard directory]")

    def __post_init__(self) -> None:
        require_counts(self, "samples")


@dataclass(frozen=True)
class ExtendOptions:
    """The options of `ppgen extend`."""

    per_class: int | None = _option(
        HOW_MUCH, "Synth: new total of every class. [default: give one of the three]"
    )
    per_image: int | None = _option(
        HOW_MUCH, "Pseudo: new total for every target image. [default: give one of the three]"
    )
    count: int | None = _option(HOW_MUCH, "Pseudo: new total of samples. [default: give one of the three]")
    planned: PlannedOptions = PlannedOptions()
    device: Device = "auto"
    engine_options: EngineOptions = HERE

    def __post_init__(self) -> None:
        require_counts(self, "per_class", "per_image", "count")
