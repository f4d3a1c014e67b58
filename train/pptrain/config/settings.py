"""The settings of a training run: names, types, bounds and defaults.

`pptrain run --set section.name=value`, YAML files and `pptrain.train` take these names. Numbers may be written as text, because YAML
reads 1e-3 as text and a command line has nothing but text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from ppcore.places import local_path

T = TypeVar("T")

# ---- types of the fields of settings, and of the options of methods


def _number(value: Any) -> Any:
    """Text that spells a number, as that number. A bool becomes text, which no numeric field accepts."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                continue
    return value


def _automatic(value: Any) -> Any:
    """None for the words that leave the choice to the program."""
    return None if isinstance(value, str) and value.lower() in ("null", "none", "auto") else value


def _unnamed(value: Any) -> Any:
    """The empty string for the words that mean "none"."""
    return "" if _automatic(value) is None else value


def _listed(value: Any) -> Any:
    """A single value becomes a list of one."""
    return [value] if isinstance(value, str | int | float) else value


Integer = Annotated[int, BeforeValidator(_number)]
Count = Annotated[int, Field(ge=0), BeforeValidator(_number)]
PositiveCount = Annotated[int, Field(gt=0), BeforeValidator(_number)]
Number = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_number)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(_number)]
PositiveAmount = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_number)]
Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False), BeforeValidator(_number)]
Automatic = Annotated[T | None, BeforeValidator(_automatic)]
Place = Annotated[str, AfterValidator(local_path)]
Unnamed = Annotated[Place, BeforeValidator(_unnamed)]
Listed = Annotated[list[T], BeforeValidator(_listed)]

# ---- the settings


@dataclass(frozen=True)
class DataConfig:
    """Images and labels.

    Attributes:
        target: the labelled task: a name, NAME=PLACE, or a folder, table or archive of images (see :func:`ppcore.targets.load_target`).
            Leave it empty to pre-train on `shards`.
        labels_per_class: labelled target images per class; 0 uses all.
        label_seed: seed that chooses those images; -1 takes the seed in the plan of the pseudo directory, or `seed` without one.
        val_fraction: share of the labelled images kept for validation; null is 0.1, or 0 if fewer than 10 labels per class would
            remain for training. A class whose share is less than half an image gives none.
        monitor: unused training images of the target whose accuracy is logged during training. It influences nothing.
        shards: synth directories for supervised pre-training (PP).
        unlabeled: pseudo directories (for condition prediction also synth directories), or one `target:SPEC` for the training
            images of a real target.
        weights: share of each directory in every batch, one number per directory; empty mixes them in proportion to their sizes.
        resolution: side of the network's input in pixels; 0 takes that of the initial model, else that of `shards`, else that of
            the weights that torchvision or timm publishes for the architecture, else 32 for the built-in networks and 224 for others.
        channels: 1 (grey) or 3 (colour); 0 takes that of the initial model, else of the shards, else of the target.
        workers: processes that decode images; 0 decodes in the training process.
        lanes: independent parts that the stream of each training process is cut into, a multiple of `workers`; 0 is one per
            worker. The order of the samples depends on it, and not on `workers`.
        groups: parts that every global batch is cut into, a multiple of the number of training processes; 0 is one per process.
            The order of the samples depends on it, and not on the number of processes.
        shuffle_window: how many samples ahead a streamed sample can be moved by shuffling.
        resident_mb: sets whose decoded images need at most this many MiB are kept in memory; of larger ones every batch is
            decoded when it is needed.
    """

    target: Place = ""
    labels_per_class: Count = 0
    label_seed: Integer = -1
    val_fraction: Automatic[Share] = None
    monitor: Count = 0
    shards: Listed[Place] = field(default_factory=list)
    unlabeled: Listed[Place] = field(default_factory=list)
    weights: Listed[Amount] = field(default_factory=list)
    resolution: Count = 0
    channels: Annotated[Literal[0, 1, 3], BeforeValidator(_number)] = 0
    workers: Count = 0
    lanes: Count = 0
    groups: Count = 0
    shuffle_window: PositiveCount = 4096
    resident_mb: Count = 1024


@dataclass(frozen=True)
class ModelConfig:
    """The network.

    Attributes:
        arch: `small`, `mobile`, a torchvision name, `timm/NAME` or `module:callable`; empty takes the architecture of the initial
            model, or `small` without one.
        init: run or model directory, kit or classifier whose weights training starts from; empty or `none` starts from scratch.
        teacher: run or model directory, kit or classifier that the methods for distillation learn from; with pseudo samples, the
            source classifier. Without a method and a teacher, that of the samples' plan is taken if a kit brings it or it is published.
        sync_batch_norm: compute batch norm over the images of all processes (`torch.nn.SyncBatchNorm`, CUDA only).
    """

    arch: Place = ""
    init: Unnamed = ""
    teacher: Place = ""
    sync_batch_norm: bool = False


@dataclass(frozen=True)
class MethodConfig:
    """The training method.

    Attributes:
        name: a name that `pptrain methods` lists; empty is `condition` if there are unlabelled images, else `supervised`.
        options: options of the method, name -> value; `pptrain methods` lists them with their defaults. If `name` is empty, the
            rule in :mod:`pptrain.config.load` chooses the options that are not given.
        batch_norm: `joint`: labelled and unlabelled images go through the network as one batch. `split`: batch norm normalises
            each of the two with its own statistics, and only labelled images enter the running statistics (arXiv 1904.03515).
    """

    name: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    batch_norm: Literal["joint", "split"] = "joint"


@dataclass(frozen=True)
class OptimConfig:
    """Optimiser, learning rate and length.

    Attributes:
        name: `adamw`, or `sgd` with Nesterov momentum.
        lr: highest learning rate.
        weight_decay: for weights; biases and the parameters of normalisation layers are not decayed.
        momentum: momentum of SGD, or beta_1 of AdamW.
        batch_size: labelled images per step, over all processes; 0 follows the rule in :mod:`pptrain.config.load`.
        steps: optimiser steps; 0 computes them from `epochs`.
        epochs: passes over the shards or the labelled images; 0 follows the rule in :mod:`pptrain.config.load`.
        schedule: `cosine`, `steps` or `constant`.
        milestones: for the schedule `steps`: when the learning rate falls, as shares of the length.
        gamma: for the schedule `steps`: factor of the learning rate at each milestone.
        warmup: steps over which the learning rate rises linearly from 0.
        clip: largest norm of the gradient; 0 does not clip.
        accumulate: batches per optimiser step; each holds `batch_size` / `accumulate` labelled images.
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
    """Augmentation.

    Attributes:
        labeled: view of the labelled images: `none`, `weak` or `strong`; `auto` follows the rule in :mod:`pptrain.config.load`.
            The published semi-supervised methods use weak views. With few labels, strong views gain more accuracy than most
            methods, so a comparison of methods must say which view it used.
        crop: `shift` (by whole pixels, with a zero border) or `resized` (random area and aspect ratio, Szegedy et al. 2015);
            `auto` is `shift` up to 64 pixels and `resized` above.
        shift: largest shift, as a share of the side.
        min_area: smallest area of a resized crop, as a share of the image.
        flip: mirror half of the images; null is true for colour and false for grey images, because mirrored letters and digits
            mean something else.
        rotate, shear: largest angle of the strong view, in degrees.
        zoom: largest zoom of the strong view, as log2 of the scale.
        color: strength of brightness, contrast, saturation and hue changes in the strong view.
        cutout: largest side of the erased square in the strong view, as a share of the side.
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
    """Evaluation, checkpoints, precision and speed.

    Attributes:
        ema: decay of the averaged weights, which are evaluated and saved; 0 evaluates and saves the weights themselves.
        eval_every: steps between evaluations; 0 is a tenth of the length.
        checkpoint_every: steps between checkpoints; 0 writes one every minute.
        log_every: steps between rows of metrics.csv.
        patience: stop after this many evaluations without improvement; 0 never stops early.
        amp: precision of the network: `no` (float32), `bf16`, `fp16` (CUDA only), or `auto`. `auto` is bf16 on CUDA, bf16 on a CPU
            that multiplies in bf16 (AVX512-BF16, AMX) unless the network has grouped convolutions, and float32 otherwise. Losses
            are always float32.
        channels_last: store images and weights with the channels innermost. On a CPU, networks with strided 1x1 convolutions of
            fewer than 16 channels are never stored this way.
        compile: compile the network with `torch.compile`.
        graphs: run the network as CUDA graphs, which saves the time to launch its kernels; needs one process and
            `optim.accumulate` 1. null is true for the networks known by name if the views of a step have at most half a million
            pixels together.
        device: `auto`, `cpu`, `cuda` or `cuda:N`; `auto` is CUDA if there is a GPU.
        threads: CPU threads of torch; 0 is one thread for images up to 64 pixels, else torch's default.
        tensorboard: write TensorBoard event files beside metrics.csv.
        trackers: experiment trackers that accelerate knows (wandb, mlflow, trackio, ...).
    """

    ema: Share = 0.99
    eval_every: Count = 0
    checkpoint_every: Count = 0
    log_every: PositiveCount = 10
    patience: Count = 0
    amp: Literal["auto", "no", "bf16", "fp16"] = "auto"
    channels_last: bool = True
    compile: bool = False
    graphs: Automatic[bool] = None
    device: str = "auto"
    threads: Count = 0
    tensorboard: bool = True
    trackers: Listed[str] = field(default_factory=list)


@dataclass(frozen=True)
class TrainConfig:
    """One training stage.

    Attributes:
        out: run directory.
        seed: decides everything random in the run.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", coerce_numbers_to_str=True)  # of all the sections too

    out: Place = ""
    seed: Count = 0
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
