"""A configuration made whole: every default filled in, every input opened and checked, nothing written yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ppcore.classifiers import Classifier, ClassifierSpec, load_classifier
from ppcore.errors import UserError
from ppcore.seeds import derive
from ppcore.targets import ImageSet, Target, load_target, stack
from pptrain.config import TrainConfig
from pptrain.data import (
    BatchShare,
    Feed,
    ResidentFeed,
    ShardPool,
    StreamFeed,
    choose_labeled,
    choose_monitored,
    fingerprint,
    load_resident,
    open_shard_pool,
)
from pptrain.engine.ranks import Ranks
from pptrain.engine.resolve import REAL, check_sources, resolve, split_labeled
from pptrain.methods import Method, SemiSupervised, make_method
from pptrain.models import make_network, make_spec

_MB = 1 << 20


@dataclass
class Task:
    """A run ready to start.

    Attributes:
        config: resolved: nothing in it is "automatic" any more, except what does not change the result.
        spec: of the classifier to be.
        net: the network, at its start; `started` says how.
        labeled, unlabeled: feeds of training images; images an epoch is counted in come from `labeled`.
        val: validation images, None when there are none.
        monitor: training images that are only watched, None when there are none.
        test: opens the test images; called once, at the very end. None for pre-training.
        fingerprints: what identifies the data.
        notes: lines for the user.
    """

    config: TrainConfig
    spec: ClassifierSpec
    net: nn.Module
    started: str
    method: Method
    teacher: Classifier | None
    labeled: Feed
    unlabeled: Feed | None
    val: ImageSet | None
    monitor: ImageSet | None
    test: Callable[[], ImageSet] | None
    fingerprints: dict[str, Any]
    notes: list[str]


def open_task(config: TrainConfig, ranks: Ranks) -> Task:
    """Resolve `config` and open its inputs.

    Args:
        ranks: this process among those that train together.

    Raises:
        UserError: anything that does not fit together.
    """
    method = make_method(config.method.name, config.method.options)
    check_sources(config, method)
    data = config.data
    source = load_classifier(config.model.init) if config.model.init else None
    pool = open_shard_pool(data.shards, "synth") if data.shards else None
    target = load_target(data.target) if data.target else None
    extra = None
    if data.unlabeled and not data.unlabeled[0].startswith(REAL):
        extra = open_shard_pool(data.unlabeled, "pseudo")
    config = resolve(config, ranks, source=source, pool=pool, extra=extra, target=target)
    data = config.data
    if pool is not None:
        class_names = tuple(pool.class_names)
    else:
        assert target is not None
        class_names = target.classes
    for opened in (pool, extra):
        _check_channels(opened, data.channels)
    spec = make_spec(config.model.arch, class_names, data.channels, data.resolution, source)
    torch.manual_seed(derive(config.seed, "start"))
    net, started = make_network(spec, source, config.model.init)
    share = BatchShare(
        config.optim.batch_size // config.optim.accumulate, ranks.rank, ranks.world, data.groups
    )
    labeled: Feed
    fingerprints: dict[str, Any] = {}
    val: ImageSet | None = None
    test: Target | None = None
    notes = _notes(config, extra, target)
    if pool is not None:
        labeled = _pool_feed(pool, config, share, "shards")
        fingerprints["shards"] = pool.fingerprints
    else:
        assert target is not None
        train, val = split_labeled(config, target)
        labeled = _image_feed(train, spec, config, share, "labeled")
        test = target
        fingerprints["target"] = {
            "name": target.name,
            "labeled": fingerprint(train),
            "labeled_images": len(train),
            "validation": fingerprint(val),
            "validation_images": len(val),
        }
    task = Task(
        config=config,
        spec=spec,
        net=net,
        started=started,
        method=method,
        teacher=_open_teacher(config, class_names),
        labeled=labeled,
        unlabeled=None,
        val=val if val is not None and len(val) else None,
        monitor=_monitor(config, target),
        test=(lambda: test.test) if test is not None else None,
        fingerprints=fingerprints,
        notes=notes,
    )
    _add_unlabeled(task, extra, target, share)
    return task


def _check_channels(pool: ShardPool | None, channels: int) -> None:
    if pool is not None and pool.channels == 3 and channels == 1:
        raise UserError(
            f"{pool.sets[0].store} holds RGB images but the model takes 1 channel; use grey shards or a model for RGB"
        )


def _open_teacher(config: TrainConfig, class_names: tuple[str, ...]) -> Classifier | None:
    if not config.model.teacher:
        return None
    teacher = load_classifier(config.model.teacher)
    if teacher.spec.class_names != class_names:
        raise UserError(
            f"teacher {config.model.teacher} knows {teacher.spec.num_classes} other classes than the {len(class_names)} of the "
            f"target; fine-tune it first: pptrain run --target {config.data.target} --init {config.model.teacher}"
        )
    return teacher


def _notes(config: TrainConfig, extra: ShardPool | None, target: Target | None) -> list[str]:
    notes = []
    if extra is not None and target is not None:
        planned = extra.sets[0].plan.get("target") or {}
        if planned.get("name") != target.name:
            notes.append(
                f"note: the pseudo samples were made for target {planned.get('name')!r}, not {target.name!r}"
            )
        elif planned.get("label_seed") is not None and planned["label_seed"] != config.data.label_seed:
            notes.append(
                f"note: the pseudo samples were conditioned on other images (label seed {planned['label_seed']}) than the "
                f"labelled ones (label seed {config.data.label_seed})"
            )
    if target is not None and not config.data.val_fraction:
        notes.append(
            "no validation split (too few labels, or none asked for): the last averaged weights are kept"
        )
    return notes


def _monitor(config: TrainConfig, target: Target | None) -> ImageSet | None:
    data = config.data
    if target is None or not data.monitor:
        return None
    labeled = choose_labeled(target, data.labels_per_class, data.label_seed)
    watched = choose_monitored(target, labeled, data.monitor, data.label_seed)
    return watched if len(watched) else None


def _image_feed(
    images: ImageSet,
    spec: ClassifierSpec,
    config: TrainConfig,
    share: BatchShare,
    name: str,
    *,
    blind: bool = False,
) -> ResidentFeed:
    """Target images held in memory; `blind` hides their labels."""
    labels = torch.full((len(images),), -1) if blind else torch.from_numpy(images.labels)
    pixels = stack(images, spec.resize or spec.resolution, spec.channels)
    return ResidentFeed(pixels, labels, images.ids, share, seed=config.seed, name=name)


def _add_unlabeled(task: Task, extra: ShardPool | None, target: Target | None, share: BatchShare) -> None:
    config = task.config
    if not isinstance(task.method, SemiSupervised):
        return
    count = round(share.batch * task.method.mu / share.groups) * share.groups
    share = replace(share, batch=count)
    if extra is not None:
        task.unlabeled = _pool_feed(extra, config, share, "unlabeled")
        task.fingerprints["unlabeled"] = extra.fingerprints
        return
    name = config.data.unlabeled[0].removeprefix(REAL)
    other = target if name == config.data.target and target is not None else load_target(name)
    held = set(task.val.ids) if task.val is not None and other is target else set()
    real = other.train.select([i for i, image_id in enumerate(other.train.ids) if image_id not in held])
    task.unlabeled = _image_feed(real, task.spec, config, share, "unlabeled", blind=True)
    task.fingerprints["unlabeled"] = [fingerprint(real)]
    task.notes.append(f"unlabelled images: {len(real)} real training images of {other.name}")


def _pool_feed(pool: ShardPool, config: TrainConfig, share: BatchShare, name: str) -> Feed:
    """Resident when it fits, streamed otherwise."""
    data = config.data
    pools = pool.split() if data.weights else [pool]
    if pool.decoded_bytes <= data.resident_mb * _MB:
        images, labels, keys = load_resident(pools)
        sizes = [part.samples for part in pools]
        return ResidentFeed(
            images, labels, keys, share, seed=config.seed, name=name, sizes=sizes, weights=data.weights
        )
    return StreamFeed(
        pools,
        share,
        seed=config.seed,
        name=name,
        weights=data.weights,
        workers=data.workers,
        lanes=data.lanes,
        window=data.shuffle_window,
    )
