"""A configuration's open choices, filled in from its inputs."""

from __future__ import annotations

import math
from dataclasses import replace

from ppcore.classifiers import usual_input
from ppcore.errors import UserError
from ppcore.targets import ImageSet, Target
from pptrain.config import (
    Choice,
    Situation,
    TrainConfig,
    choose_fine_tuning,
    choose_pre_training,
    method_name,
)
from pptrain.data import ShardPool, choose_labeled, split_validation, val_share
from pptrain.engine.inputs import Inputs
from pptrain.engine.process_group import ProcessGroup


def resolve_config(config: TrainConfig, inputs: Inputs, group: ProcessGroup) -> tuple[TrainConfig, list[str]]:
    """(`config` with nothing left to be chosen but what :mod:`pptrain.engine.choice` measures, lines for the user on what the rule of
    default settings chose).

    Raises:
        UserError: a choice of the user's that its inputs or the machine contradict.
    """
    arch = _arch(config, inputs)
    channels = _channels(config, inputs)
    data = replace(
        config.data,
        channels=channels,  # type: ignore[arg-type]  # the model's, the shards' or the images': 1 or 3
        resolution=_resolution(config, inputs, arch, channels),
        lanes=config.data.lanes or max(config.data.workers, 1),
        groups=config.data.groups or group.world_size,
        label_seed=_label_seed(config, inputs.pseudo),
    )
    config = replace(config, data=data, model=replace(config.model, arch=arch))
    if inputs.target is not None:
        labeled = choose_labeled(inputs.target, data.labels_per_class, data.label_seed)
        data = replace(data, val_fraction=val_share(labeled.labels, data.val_fraction))
        config = replace(config, data=data)
        train, _ = split_labeled(config, inputs.target)
        config, line = _adapted(config, _fine_tuning(inputs, train), len(train), len(inputs.target.classes))
    else:
        if data.val_fraction:
            raise UserError("pre-training on shards has no validation images; drop data.val_fraction")
        assert inputs.shards is not None
        config = replace(config, data=replace(data, val_fraction=0.0))
        images, classes = inputs.shards.samples, len(inputs.shards.classes)
        config, line = _adapted(config, choose_pre_training(images, config.optim.batch_size), images, classes)
    if config.loop.amp == "fp16" and group.device.type == "cpu":
        raise UserError("fp16 training needs a CUDA device; use --amp bf16 or no")
    loop = replace(
        config.loop,
        eval_every=config.loop.eval_every or max(1, config.optim.steps // 10),
    )
    return replace(config, loop=loop), line


def _fine_tuning(inputs: Inputs, train: ImageSet) -> Choice:
    """The rule's choice for the labelled images and what else was opened."""
    target, conditions, pseudo = inputs.target, inputs.conditions, inputs.pseudo
    assert target is not None
    there = Situation(images=len(train))
    if conditions is not None and pseudo is not None:
        known = () if inputs.initial is None else inputs.initial.spec.class_names
        mine = pseudo.planned_target.name == target.name  # images of other targets may have the same names
        there = replace(
            there,
            conditions=True,
            source_head=not set(known).isdisjoint(conditions.class_names),
            soft_labels=mine and conditions.of_targets(train.ids) is not None,
        )
    return choose_fine_tuning(there)


def _adapted(config: TrainConfig, choice: Choice, images: int, classes: int) -> tuple[TrainConfig, list[str]]:
    """(`config` with the choice where the user left it open, a line that says what was chosen)."""
    optim, views, method = config.optim, config.views, config.method
    said = []
    batch = optim.batch_size
    if not batch:
        whole = config.data.groups * optim.accumulate
        batch = math.ceil(choice.batch_size / whole) * whole
        said.append(f"batch {batch}")
    steps = optim.steps
    if not steps and optim.epochs:
        steps = max(1, math.ceil(optim.epochs * images / batch))
    elif not steps:
        steps = choice.steps
        said.insert(0, f"{steps} steps")
    if views.labeled == "auto":
        views = replace(views, labeled=choice.labeled)
        said.append(f"{choice.labeled} views")
    if not method.name:
        name = method_name(config)
        chosen = choice.options if name == "condition" else {}
        weights = {option: value for option, value in chosen.items() if option not in method.options}
        method = replace(method, name=name, options={**weights, **method.options})
        if config.data.target:
            said.append(" ".join([f"method {name}", *(f"{k}={v:g}" for k, v in weights.items())]))
    line = f"default settings for {images} {'labelled images' if config.data.target else 'images'} of {classes} classes: "
    config = replace(
        config, method=method, views=views, optim=replace(optim, steps=steps, epochs=0.0, batch_size=batch)
    )
    return config, [line + ", ".join(said)] if said else []


def split_labeled(config: TrainConfig, target: Target) -> tuple[ImageSet, ImageSet]:
    """(labelled images to train on, to validate with)."""
    data = config.data
    labeled = choose_labeled(target, data.labels_per_class, data.label_seed)
    return split_validation(labeled, data.val_fraction or 0.0, config.seed)


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


def _channels(config: TrainConfig, inputs: Inputs) -> int:
    initial, target, shards = inputs.initial, inputs.target, inputs.shards or inputs.pseudo
    channels: int = config.data.channels
    if not channels and initial is not None:
        channels = initial.spec.channels
    if not channels and shards is not None:
        channels = shards.channels
    if not channels and target is not None:
        channels = target.train.image(0).shape[2]
    if initial is not None and channels != initial.spec.channels:
        raise UserError(
            f"--init {config.model.init} takes {initial.spec.channels} channels, not {channels}; drop --channels"
        )
    if shards is not None and shards.channels == 3 and channels == 1:
        raise UserError(
            f"{shards.sets[0].store} holds RGB images but the model takes 1 channel; use grey shards or a model for RGB"
        )
    return channels


def _resolution(config: TrainConfig, inputs: Inputs, arch: str, channels: int) -> int:
    if config.data.resolution:
        return config.data.resolution
    if inputs.initial is not None:
        return inputs.initial.spec.resolution
    if inputs.shards is not None:
        return inputs.shards.resolution
    return usual_input(arch, channels)[0]


def _label_seed(config: TrainConfig, pseudo: ShardPool | None) -> int:
    """The labelled images must be the ones that conditioned the pseudo samples, so the pseudo plan's seed is the default."""
    if config.data.label_seed >= 0:
        return config.data.label_seed
    planned = pseudo.planned_target.label_seed if pseudo is not None else None
    return config.seed if planned is None else planned
