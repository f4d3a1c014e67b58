"""A configuration's open choices, filled in from its inputs."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from ppcore.classifiers import usual_input
from ppcore.errors import UserError
from ppcore.targets import ImageSet, Target
from pptrain.config import TrainConfig
from pptrain.data import ShardPool, choose_labeled, split_validation, val_share
from pptrain.engine.inputs import Inputs
from pptrain.engine.process_group import ProcessGroup
from pptrain.models import has_bf16

_SHARD_EPOCHS, _SHARD_STEPS = 10, (500, 100_000)
_TARGET_EPOCHS, _TARGET_STEPS = 200, (300, 20_000)


def resolve_config(config: TrainConfig, inputs: Inputs, group: ProcessGroup) -> TrainConfig:
    """`config` with nothing left to be chosen.

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
    samples = 0
    if inputs.target is not None:
        labeled = choose_labeled(inputs.target, data.labels_per_class, data.label_seed)
        data = replace(data, val_fraction=val_share(labeled.labels, data.val_fraction))
        samples = len(split_labeled(replace(config, data=data), inputs.target)[0])
    elif data.val_fraction:
        raise UserError("pre-training on shards has no validation images; drop data.val_fraction")
    if inputs.shards is not None:
        samples = inputs.shards.samples
    steps = _steps(config, samples)
    return replace(
        config,
        data=replace(data, val_fraction=data.val_fraction or 0.0),
        model=replace(config.model, arch=arch),
        optim=replace(config.optim, steps=steps, epochs=0.0),
        loop=replace(
            config.loop,
            eval_every=config.loop.eval_every or max(1, steps // 10),
            amp=_amp(config, group.device),  # type: ignore[arg-type]
        ),
    )


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


def _steps(config: TrainConfig, samples: int) -> int:
    """Steps of the run."""
    if config.optim.steps:
        return config.optim.steps
    an_epoch = samples / config.optim.batch_size
    if config.optim.epochs:
        return max(1, math.ceil(config.optim.epochs * an_epoch))
    epochs, (low, high) = (
        (_SHARD_EPOCHS, _SHARD_STEPS) if config.data.shards else (_TARGET_EPOCHS, _TARGET_STEPS)
    )
    return min(max(math.ceil(epochs * an_epoch), low), high)


def _amp(config: TrainConfig, device: torch.device) -> str:
    amp = config.loop.amp
    if amp == "fp16" and device.type == "cpu":
        raise UserError("fp16 training needs a CUDA device; use --amp bf16 or no")
    if amp == "auto":
        return "bf16" if has_bf16(device) else "no"
    return amp
