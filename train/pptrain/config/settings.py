"""The settings of a training run, their types and bounds; their defaults are the program's defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import ConfigDict

from pptrain.config.values import (
    Amount,
    Automatic,
    Count,
    Integer,
    Listed,
    Number,
    PositiveAmount,
    PositiveCount,
    Share,
    Unnamed,
    numeric,
)


@dataclass(frozen=True)
class DataConfig:
    """Where images come from.

    Attributes:
        target: target spec (see :func:`ppcore.targets.load_target`); empty when the run is pre-training on shards.
        labels_per_class: labelled target images a class; 0 keeps them all.
        label_seed: which images those are; -1 takes the seed of the pseudo plan, or else the run's.
        val_fraction: share of the labelled images kept for validation; null is 0.1, or 0 when fewer than 10 labels a class
            would remain.
        monitor: how many of the unused training images of the target to watch while training (their accuracy is logged and
            chooses nothing).
        shards: synth directories for supervised pre-training (PP).
        unlabeled: pseudo directories, or `target:SPEC` for the real training images of a target.
        weights: share of each of several directories in every batch; empty shares by their sizes.
        resolution: side in pixels the network is fed at; 0 takes the first of: the initial model's, the shards', 32 for
            the built-in networks, 224.
        channels: 1 or 3; 0 takes the first of: the initial model's, the shards', the target's.
        workers: decoding processes; 0 decodes in this one.
        lanes: independent parts a rank's stream is cut into, a multiple of `workers`; 0 is one a worker. The order of the
            samples depends on it and not on `workers`.
        groups: parts a global batch is cut into, a multiple of the number of ranks; 0 is one a rank. The order of the
            samples depends on it and not on the number of ranks.
        shuffle_window: samples a streamed sample can move ahead by.
        resident_mb: shard sets whose decoded images fit are kept in memory and shuffled as a whole.
    """

    target: str = ""
    labels_per_class: Count = 0
    label_seed: Integer = -1
    val_fraction: Automatic[Share] = None
    monitor: Count = 0
    shards: Listed[str] = field(default_factory=list)
    unlabeled: Listed[str] = field(default_factory=list)
    weights: Listed[Amount] = field(default_factory=list)
    resolution: Count = 0
    channels: Annotated[Literal[0, 1, 3], numeric] = 0
    workers: Count = 0
    lanes: Count = 0
    groups: Count = 0
    shuffle_window: PositiveCount = 4096
    resident_mb: Count = 1024


@dataclass(frozen=True)
class ModelConfig:
    """The network.

    Attributes:
        arch: name for :func:`ppcore.classifiers.build`; empty takes the initial model's, or `small`.
        init: model directory, kit name or classifier spec whose weights are the start; empty or `none` starts from scratch.
        teacher: the same, for distillation.
        sync_batch_norm: whether batch norm's batch is that of all processes together.
    """

    arch: str = ""
    init: Unnamed = ""
    teacher: str = ""
    sync_batch_norm: bool = False


@dataclass(frozen=True)
class MethodConfig:
    """How it learns.

    Attributes:
        name: see `pptrain methods`; empty is `condition` where there are unlabelled images, else `supervised`.
        options: the method's own settings; those left out take the method's defaults, or the rule's (see
            :mod:`pptrain.config.adaptive`) where the method was left out, too.
        batch_norm: `joint` (one concatenated batch), `labeled` (unlabelled images are normalised by the statistics of the
            batch's labelled ones) or `split` (each stream by its own, arXiv 1904.03515).
    """

    name: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    batch_norm: Literal["joint", "labeled", "split"] = "joint"


@dataclass(frozen=True)
class OptimConfig:
    """Optimiser, schedule and length.

    Attributes:
        name: `sgd` (Nesterov) or `adamw`.
        lr: highest learning rate.
        weight_decay: of weights; biases and parameters of norms are not decayed.
        momentum: of SGD; AdamW's first beta.
        batch_size: labelled images a step, over all ranks; 0 follows the rule in :mod:`pptrain.config.adaptive`.
        steps: length; 0 derives it from `epochs`.
        epochs: passes over the shards, or over the labelled images; 0 follows the rule.
        schedule: `cosine`, `steps` or `constant`.
        milestones: for `steps`, as shares of the length.
        gamma: what the learning rate is multiplied by at each milestone.
        warmup: steps of linear warm-up.
        clip: largest gradient norm; 0 is off.
        accumulate: micro-batches a step.
    """

    name: Literal["adamw", "sgd"] = "adamw"
    lr: PositiveAmount = 2e-3
    weight_decay: Amount = 0.05
    momentum: Amount = 0.9
    batch_size: Count = 0
    steps: Count = 0
    epochs: Amount = 0.0
    schedule: Literal["cosine", "steps", "constant"] = "cosine"
    milestones: Listed[Number] = field(default_factory=lambda: [0.3, 0.6, 0.8])
    gamma: Amount = 0.1
    warmup: Count = 20
    clip: Amount = 0.0
    accumulate: PositiveCount = 1


@dataclass(frozen=True)
class ViewsConfig:
    """Batch augmentation.

    Attributes:
        labeled: view of labelled images: `none`, `weak`, `strong`, or `auto`, which follows the rule. The published
            semi-supervised methods use weak; with a few labels strong is worth more points than most methods, so that every row of
            a table must say which it had.
        crop: `shift` (whole pixels, zero border) or `resized` (area and aspect ratio, Szegedy et al. 2015); `auto` is shift
            up to 64 pixels.
        shift: largest shift, as a share of the side.
        min_area: smallest area of a resized crop.
        flip: mirror half of the images; null is on for colour and off for grey images (letters and digits change meaning).
        rotate, shear: strong view, degrees.
        zoom: strong view, log2 of the scale.
        color: strong view, strength of brightness, contrast, saturation and hue.
        cutout: strong view, largest side of the erased square as a share of the side.
    """

    labeled: Literal["auto", "none", "weak", "strong"] = "auto"
    crop: Literal["auto", "shift", "resized"] = "auto"
    shift: Amount = 0.125
    min_area: Amount = 0.35
    flip: Automatic[bool] = None
    rotate: Amount = 20.0
    shear: Amount = 12.0
    zoom: Amount = 0.25
    color: Amount = 0.4
    cutout: Amount = 0.4


@dataclass(frozen=True)
class LoopConfig:
    """The loop around the step.

    Attributes:
        ema: decay of the averaged weights, which are the ones evaluated and saved; 0 is off.
        eval_every, checkpoint_every: steps; 0 is a tenth of the length, and the end.
        log_every: steps between rows of metrics.csv.
        patience: evaluations without improvement before an early stop; 0 is off.
        amp: `no`, `bf16`, `fp16`, or `auto`: bf16 on CUDA, and on a CPU that computes in it where a trial of a few steps shows it to
            be faster. Losses are in float32 always.
        channels_last: memory layout of images and weights; null is what the trial shows. On a CPU, networks with strided 1x1
            convolutions of fewer than 16 channels do without it.
        compile: `torch.compile`; null is what a trial shows on CUDA in runs of half an hour and more, and false elsewhere.
        graphs: CUDA graphs of the network's passes, for one process and `optim.accumulate` 1; null is what a trial shows on CUDA, and
            false elsewhere.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        threads: CPU threads of torch; 0 is one for images up to 64 pixels, else torch's own choice.
        tensorboard: event files beside metrics.csv.
        trackers: names for accelerate's trackers (wandb, mlflow, trackio ...).
    """

    ema: Share = 0.99
    eval_every: Count = 0
    checkpoint_every: Count = 0
    log_every: PositiveCount = 10
    patience: Count = 0
    amp: Literal["auto", "no", "bf16", "fp16"] = "auto"
    channels_last: Automatic[bool] = None
    compile: Automatic[bool] = None
    graphs: Automatic[bool] = None
    device: str = "auto"
    threads: Count = 0
    tensorboard: bool = True
    trackers: Listed[str] = field(default_factory=list)


@dataclass(frozen=True)
class TrainConfig:
    """One training stage. `out` is its run directory; `seed` decides everything random in it."""

    __pydantic_config__ = ConfigDict(extra="forbid", coerce_numbers_to_str=True)  # of all the sections too

    out: str = ""
    seed: Count = 0
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
