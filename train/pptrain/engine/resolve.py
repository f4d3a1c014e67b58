"""A configuration's open choices filled in from its inputs, and combinations that make no sense refused."""

from __future__ import annotations

import math
from dataclasses import replace

from ppcore.classifiers import Classifier, usual_input
from ppcore.errors import UserError
from ppcore.targets import ImageSet, Target
from pptrain.config import TrainConfig
from pptrain.data import ShardPool, choose_labeled, split_validation, val_share
from pptrain.engine.ranks import Ranks, has_bf16
from pptrain.methods import Method, SemiSupervised

REAL = "target:"
_SHARD_EPOCHS, _SHARD_STEPS = 10, (500, 100_000)
_TARGET_EPOCHS, _TARGET_STEPS = 200, (300, 20_000)


def check_sources(config: TrainConfig, method: Method) -> None:
    data = config.data
    if data.shards and data.target:
        raise UserError(
            "both --shards and --target were given; pre-train on the shards first, then fine-tune with --target and --init RUN"
        )
    if not data.shards and not data.target:
        raise UserError("no training data; give --target (labelled images) or --shards (a synth directory)")
    semi = isinstance(method, SemiSupervised)
    if data.unlabeled and not semi:
        raise UserError(f"method {config.method.name} takes no unlabelled images; add --method uda")
    if semi and not data.unlabeled:
        raise UserError(
            f"method {config.method.name} needs unlabelled images; give --unlabeled DIR or --unlabeled target:NAME"
        )
    if semi and not data.target:
        raise UserError(f"method {config.method.name} needs labelled target images; give --target")
    if method.needs_teacher != bool(config.model.teacher):
        raise UserError(
            f"method {config.method.name} needs a teacher; give --teacher MODEL"
            if method.needs_teacher
            else f"method {config.method.name} takes no teacher; drop --teacher or use --method soft-target"
        )
    real = [entry.startswith(REAL) for entry in data.unlabeled]
    if any(real) and len(real) > 1:
        raise UserError(
            "unlabelled images come from shard directories or from one target:NAME, not from both"
        )


def resolve(
    config: TrainConfig,
    ranks: Ranks,
    *,
    source: Classifier | None,
    pool: ShardPool | None,
    extra: ShardPool | None,
    target: Target | None,
) -> TrainConfig:
    """Fill in what was left to be chosen."""
    arch = config.model.arch or (source.spec.arch if source else "small")
    if source is not None and arch != source.spec.arch:
        raise UserError(
            f"--init {config.model.init} is a {source.spec.arch}, not a {arch}; drop --arch or start from another model"
        )
    shards = pool or extra
    given = [source.spec.channels if source else 0, shards.channels if shards else 0]
    channels: int = config.data.channels or next((c for c in given if c), 0) or _target_channels(target)
    if source is not None and channels != source.spec.channels:
        raise UserError(
            f"--init {config.model.init} takes {source.spec.channels} channels, not {channels}; drop --channels"
        )
    sides = [
        source.spec.resolution if source else 0,
        pool.resolution if pool else 0,
        usual_input(arch, channels)[0],
    ]
    resolution = config.data.resolution or next(side for side in sides if side)
    data = replace(
        config.data,
        channels=channels,  # type: ignore[arg-type]  # the source's, the shards' or the images': 1 or 3
        resolution=resolution,
        lanes=config.data.lanes or max(config.data.workers, 1),
        groups=config.data.groups or ranks.world,
        label_seed=_label_seed(config, extra),
    )
    samples = pool.samples if pool is not None else 0
    if target is not None:
        labeled = choose_labeled(target, data.labels_per_class, data.label_seed)
        data = replace(data, val_fraction=val_share(labeled.labels, data.val_fraction))
        samples = len(split_labeled(replace(config, data=data), target)[0])
    elif data.val_fraction:
        raise UserError("pre-training on shards has no validation images; drop data.val_fraction")
    steps = _length(config, samples)
    amp = config.loop.amp
    if amp == "auto":
        amp = "bf16" if has_bf16(ranks.device) else "no"
    if amp == "fp16" and ranks.device.type == "cpu":
        raise UserError("fp16 training needs a CUDA device; use --amp bf16 or no")
    loop = replace(config.loop, eval_every=config.loop.eval_every or max(1, steps // 10), amp=amp)
    return replace(
        config,
        data=replace(data, val_fraction=data.val_fraction or 0.0),
        model=replace(config.model, arch=arch),
        optim=replace(config.optim, steps=steps, epochs=0.0),
        loop=loop,
    )


def _length(config: TrainConfig, samples: int) -> int:
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


def _label_seed(config: TrainConfig, extra: ShardPool | None) -> int:
    """The labelled images must be the ones that conditioned the pseudo samples, so the pseudo plan's seed is the default."""
    if config.data.label_seed >= 0:
        return config.data.label_seed
    planned = (extra.sets[0].plan.get("target") or {}).get("label_seed") if extra is not None else None
    return config.seed if planned is None else int(planned)


def _target_channels(target: Target | None) -> int:
    return target.train.image(0).shape[2] if target is not None else 3


def split_labeled(config: TrainConfig, target: Target) -> tuple[ImageSet, ImageSet]:
    """(labelled images to train on, to validate with)."""
    data = config.data
    labeled = choose_labeled(target, data.labels_per_class, data.label_seed)
    return split_validation(labeled, data.val_fraction or 0.0, config.seed)
