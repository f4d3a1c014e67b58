"""The final configuration of a run: what the user gave, completed from the data, the network and the device."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from ppcore.classifiers import ClassifierSpec, usual_input
from ppcore.errors import UserError
from ppcore.seeds import derive
from ppcore.targets import ImageSet, Target, usual_channels
from pptrain.config import (
    CONFIG_FILE,
    RuleSettings,
    TrainConfig,
    fine_tuning_rule,
    load_config,
    method_name,
    pre_training_rule,
)
from pptrain.data import ShardPool, choose_labeled, split_validation, val_share
from pptrain.engine.inputs import Inputs
from pptrain.engine.process_group import ProcessGroup
from pptrain.methods import SemiSupervised, make_method
from pptrain.models import has_bf16, has_grouped_convolutions, make_network, make_spec

# CUDA graphs up to this many pixels in the views of a step: 512 images of 32 pixels. benchmarks/README.md has the measurements: above,
# computing takes longer than launching the kernels, and graphs gain nothing.
_GRAPHED_PIXELS = 512 * 32 * 32


@dataclass(frozen=True)
class Resolved:
    """A final configuration and what was made on the way to it.

    Attributes:
        config: nothing in it is left to be chosen.
        spec: description of the classifier that is trained.
        net: the network with its initial weights.
        started: where those weights come from, for the user.
        train, val: labelled images to train on and to validate with; None for pre-training on shards.
        notes: lines for the user that say which settings were chosen.
    """

    config: TrainConfig
    spec: ClassifierSpec
    net: nn.Module
    started: str
    train: ImageSet | None
    val: ImageSet | None
    notes: list[str]


def resolve_config(config: TrainConfig, inputs: Inputs, group: ProcessGroup) -> Resolved:
    """Fill in every setting that the user left open.

    1. Architecture, channels, resolution and label seed come from the initial model, the shards and the target.
    2. Length, batch size, view and method come from the rule in :mod:`pptrain.config.load`.
    3. Precision and CUDA graphs come from the network and the device, or from the interrupted run in `config.out`.

    Raises:
        UserError: a setting contradicts the data or the initial model.
    """
    arch = _arch(config, inputs)
    channels, notes = _channels(config, inputs)
    notes = [*notes, *inputs.notes]
    data = replace(
        config.data,
        channels=channels,  # type: ignore[arg-type]  # the model's, the shards' or the images': 1 or 3
        resolution=_resolution(config, inputs, arch, channels),
        lanes=config.data.lanes or max(config.data.workers, 1),
        groups=config.data.groups or group.world_size,
        label_seed=_label_seed(config, inputs.pseudo),
    )
    config = replace(config, data=data, model=replace(config.model, arch=arch, teacher=inputs.teacher_name))

    train = val = None
    if inputs.target is not None:
        config, train, val = _split_labeled(config, inputs.target)
        rule, images = _fine_tuning_rule(inputs, train), len(train)
    else:
        if data.val_fraction:
            raise UserError("pre-training on shards has no validation images; drop data.val_fraction")
        assert inputs.shards is not None
        config = replace(config, data=replace(data, val_fraction=0.0))
        images = inputs.shards.samples
        rule = pre_training_rule(images, config.optim.batch_size)
    config, by_rule = _with_rule(config, rule, images, inputs.class_names)

    spec = make_spec(arch, inputs.class_names, channels, config.data.resolution, inputs.initial)
    torch.manual_seed(derive(config.seed, "start"))
    method = make_method(config.method.name, config.method.options)
    needs_head = inputs.target is None or method.needs_features  # a pre-trained network gets a new head later
    net, started = make_network(spec, inputs.initial, config.model.init, needs_head=needs_head)
    config, more = _with_precision(config, net, group)
    return Resolved(config, spec, net, started, train, val, [*notes, *by_rule, *more])


def check_device(config: TrainConfig, device: torch.device) -> None:
    """Raise UserError for settings that need CUDA if `device` is not a CUDA device."""
    if device.type == "cuda":
        return
    if config.loop.amp == "fp16":
        raise UserError("loop.amp fp16 needs a CUDA device; use --amp bf16 or --amp no")
    if config.model.sync_batch_norm:
        raise UserError("model.sync_batch_norm needs CUDA devices; set model.sync_batch_norm=false")


# ---- 1: from the inputs


def _arch(config: TrainConfig, inputs: Inputs) -> str:
    initial = inputs.initial
    if initial is None:
        return config.model.arch or "small"
    if config.model.arch not in ("", initial.spec.arch):
        raise UserError(
            f"--init {config.model.init} is a {initial.spec.arch}, not a {config.model.arch}; drop --arch or start from another "
            f"model"
        )
    return initial.spec.arch


def _channels(config: TrainConfig, inputs: Inputs) -> tuple[int, list[str]]:
    """(channels of the network's input, a line for the user if the target's images decided)."""
    notes = []
    initial, target, shards = inputs.initial, inputs.target, inputs.shards or inputs.pseudo
    channels: int = config.data.channels
    if not channels and initial is not None:
        channels = initial.spec.channels
    if not channels and shards is not None:
        channels = shards.channels
    if not channels and target is not None:
        channels = usual_channels(target.train)
        grey, colour = "the training images are grey", "there are training images in colour"
        notes.append(
            f"{channels} input channel{'s' if channels > 1 else ''}: {grey if channels == 1 else colour}"
        )
    if initial is not None and channels != initial.spec.channels:
        raise UserError(
            f"--init {config.model.init} takes {initial.spec.channels} channels, not {channels}; drop --channels"
        )
    if shards is not None and shards.channels == 3 and channels == 1:
        raise UserError(
            f"{shards.sets[0].store} holds RGB images but the model takes 1 channel; use grey shards or a model for RGB"
        )
    return channels, notes


def _resolution(config: TrainConfig, inputs: Inputs, arch: str, channels: int) -> int:
    if config.data.resolution:
        return config.data.resolution
    if inputs.initial is not None:
        return inputs.initial.spec.resolution
    if inputs.shards is not None:
        return inputs.shards.resolution
    return usual_input(arch, channels).resolution


def _label_seed(config: TrainConfig, pseudo: ShardPool | None) -> int:
    """The seed of the pseudo plan by default: the labelled images should be those that conditioned the pseudo samples."""
    if config.data.label_seed >= 0:
        return config.data.label_seed
    planned = pseudo.planned_target.label_seed if pseudo is not None else None
    return config.seed if planned is None else planned


def _split_labeled(config: TrainConfig, target: Target) -> tuple[TrainConfig, ImageSet, ImageSet]:
    """(`config` with its validation share, labelled images to train on, labelled images to validate with)."""
    data = config.data
    labeled = choose_labeled(target, data.labels_per_class, data.label_seed)
    share = val_share(labeled.labels, data.val_fraction)
    train, val = split_validation(labeled, share, config.seed)
    return replace(config, data=replace(data, val_fraction=share)), train, val


# ---- 2: from the rule of defaults


def _fine_tuning_rule(inputs: Inputs, train: ImageSet) -> RuleSettings:
    target, conditions, pseudo = inputs.target, inputs.conditions, inputs.pseudo
    if conditions is None or pseudo is None or target is None:
        return fine_tuning_rule(len(train))
    known = () if inputs.initial is None else inputs.initial.spec.class_names
    has_head = not set(known).isdisjoint(conditions.class_names)
    # Images of another target may have the same names, so names alone do not identify a labelled image.
    soft = has_head and pseudo.planned_target.name == target.name
    soft = soft and conditions.of_targets(train.ids) is not None
    return fine_tuning_rule(len(train), conditions=True, soft_labels=soft, teacher=inputs.teacher is not None)


def _with_rule(
    config: TrainConfig, rule: RuleSettings, images: int, classes: tuple[str, ...]
) -> tuple[TrainConfig, list[str]]:
    """(`config` with the rule's settings where the user gave none, a line for the user that says what was chosen)."""
    optim, views, method = config.optim, config.views, config.method
    chosen = []
    batch = optim.batch_size
    if not batch:
        whole = config.data.groups * optim.accumulate
        batch = math.ceil(rule.batch_size / whole) * whole
        chosen.append(f"batch {batch}")
    steps = optim.steps
    if not steps and optim.epochs:
        steps = max(1, math.ceil(optim.epochs * images / batch))
    elif not steps:
        steps = rule.steps
        chosen.insert(0, f"{steps} steps")
    if views.labeled == "auto":
        views = replace(views, labeled=rule.labeled)
        chosen.append(f"{rule.labeled} views")
    if not method.name:
        name = method_name(config)
        options = rule.options if name == "condition" else {}
        weights = {option: value for option, value in options.items() if option not in method.options}
        method = replace(method, name=name, options={**weights, **method.options})
        if config.data.target:
            chosen.append(" ".join([f"method {name}", *(f"{k}={v:g}" for k, v in weights.items())]))
    config = replace(
        config,
        method=method,
        views=views,
        optim=replace(optim, steps=steps, epochs=0.0, batch_size=batch),
        loop=replace(config.loop, eval_every=config.loop.eval_every or max(1, steps // 10)),
    )
    kind = "labelled images" if config.data.target else "images"
    line = f"default settings for {images} {kind} of {len(classes)} classes: {', '.join(chosen)}"
    return config, [line] if chosen else []


# ---- 3: from the network and the device


def _with_precision(
    config: TrainConfig, net: nn.Module, group: ProcessGroup
) -> tuple[TrainConfig, list[str]]:
    """(`config` with its precision and CUDA graphs, lines for the user).

    bf16 is slower than float32 in two cases (benchmarks/README.md has the measurements): on a CPU that emulates it, and on any CPU
    in grouped convolutions, for which oneDNN has no fast bf16 kernel.
    """
    loop, device, notes = config.loop, group.device, []
    stored = Path(config.out, CONFIG_FILE)
    if config.out and (loop.amp == "auto" or loop.graphs is None) and stored.is_file():
        before = load_config(str(stored)).loop  # an interrupted run continues as it began, on any machine
        loop = replace(
            loop,
            amp=before.amp if loop.amp == "auto" else loop.amp,
            graphs=before.graphs if loop.graphs is None else loop.graphs,
        )
    if loop.amp == "auto":
        slow = device.type == "cpu" and has_grouped_convolutions(net)
        loop = replace(loop, amp="bf16" if has_bf16(device) and not slow else "no")
    possible = (
        device.type == "cuda" and group.world_size == 1 and config.optim.accumulate == 1 and not loop.compile
    )
    if loop.graphs and not possible:
        notes.append(
            "loop.graphs is off: CUDA graphs need one process on a CUDA device, optim.accumulate 1 and no loop.compile"
        )
    # Graphs cannot record every network, so networks from the user's code use them only if asked to.
    small = ":" not in config.model.arch and _pixels_per_step(config) <= _GRAPHED_PIXELS
    graphs = possible and (small if loop.graphs is None else loop.graphs)
    return replace(config, loop=replace(loop, graphs=graphs)), notes


def _pixels_per_step(config: TrainConfig) -> float:
    """Pixels of all views of a step."""
    method = make_method(config.method.name, config.method.options)
    views = method.mu * len(method.views) if isinstance(method, SemiSupervised) else 0.0
    return config.optim.batch_size * (1.0 + views) * config.data.resolution**2
