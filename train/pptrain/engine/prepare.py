"""A run made ready to start: its inputs opened, its configuration resolved, its feeds made. Nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from ppcore.classifiers import Classifier, ClassifierSpec
from ppcore.errors import UserError
from ppcore.seeds import derive
from ppcore.targets import ImageSet, Target, describe_target, stack
from ppcore.trust import NOBODY, Trust
from pptrain.config import TrainConfig
from pptrain.data import (
    BatchShare,
    DecodingFeed,
    Feed,
    ResidentFeed,
    ShardPool,
    StreamFeed,
    choose_labeled,
    choose_monitored,
    fingerprint,
    load_resident,
)
from pptrain.engine.inputs import Inputs, open_inputs
from pptrain.engine.process_group import ProcessGroup
from pptrain.engine.resolve import Resolved, resolve_config
from pptrain.methods import Method, SemiSupervised, SourceSide, make_method
from pptrain.models import follow_run, make_source_head, synchronise_batch_norm

_MB = 1 << 20


@dataclass(frozen=True)
class PreparedRun:
    """A run ready to start.

    Attributes:
        config: the final configuration.
        spec: description of the classifier that is trained.
        net: the network with its initial weights; `started` says where they come from.
        teacher: for methods that distil.
        labeled, unlabeled: feeds of training images. An epoch is one pass over `labeled`.
        val: validation images, None without any.
        monitor: training images whose accuracy is only logged, None without any.
        test: opens the test images; called once, at the very end. None for pre-training.
        fingerprints: identify the data in result.json.
        notes: lines for the user.
        source: for methods that predict conditions.
        train, pseudo: labelled target images and pool of pseudo samples, for :mod:`pptrain.engine.prototypes`.
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
    source: SourceSide | None = None
    train: ImageSet | None = None
    pseudo: ShardPool | None = None


def prepare_run(config: TrainConfig, group: ProcessGroup, trust: Trust = NOBODY) -> PreparedRun:
    """Open what `config` names, resolve it, and make everything that training needs.

    Args:
        group: the processes that train together.
        trust: which code the initial model and the teacher may name, beside the architecture that `config` names.

    Raises:
        UserError: the settings, the data and the models do not fit together.
    """
    inputs = open_inputs(config, trust)
    resolved = resolve_config(config, inputs, group)
    config, train, val, target = resolved.config, resolved.train, resolved.val, inputs.target
    method = make_method(config.method.name, config.method.options)
    net = resolved.net
    follow_run(net, config.optim.steps * config.optim.accumulate)
    if config.model.sync_batch_norm and group.world_size > 1:
        net = synchronise_batch_norm(net, config.model.arch)
    batch = config.optim.batch_size // config.optim.accumulate
    share = BatchShare(batch, group.rank, group.world_size, config.data.groups)
    source, source_notes = _source_side(inputs, method, resolved)
    notes = [*resolved.notes, *_notes(config, inputs, train, val), *source_notes]
    return PreparedRun(
        config=config,
        spec=resolved.spec,
        net=net,
        started=resolved.started,
        method=method,
        teacher=inputs.teacher,
        labeled=_labeled_feed(inputs.shards, train, resolved.spec, config, share),
        unlabeled=_unlabeled_feed(inputs, method, val, resolved.spec, config, share=share),
        val=val if val is not None and len(val) else None,
        monitor=_monitored(config, target),
        test=(lambda: target.test) if target is not None else None,
        fingerprints=_fingerprints(inputs, train, val),
        notes=notes if group.is_main else [],
        source=source,
        train=train,
        pseudo=inputs.pseudo,
    )


def _source_side(inputs: Inputs, method: Method, resolved: Resolved) -> tuple[SourceSide | None, list[str]]:
    """(what a method that predicts conditions needs, lines for the user)."""
    conditions, train = inputs.conditions, resolved.train
    if conditions is None or train is None:
        return None, []
    torch.manual_seed(derive(resolved.config.seed, "source head"))
    head, note = make_source_head(resolved.net, conditions.class_names, inputs.initial)
    labeled = conditions.of_targets(train.ids)
    if labeled is None and getattr(method, "labelled_soft", 0) > 0:
        raise UserError(
            "method.options.labelled_soft needs the soft label of every labelled image, and some of them conditioned no sample; "
            "make the pseudo set from the same labelled images, or set method.options.labelled_soft=0"
        )
    return SourceSide(head, conditions, labeled), [note]


def _labeled_feed(
    shards: ShardPool | None,
    train: ImageSet | None,
    spec: ClassifierSpec,
    config: TrainConfig,
    share: BatchShare,
) -> Feed:
    if shards is not None:
        return _shard_feed(shards, config, share, "shards")
    assert train is not None
    return _image_feed(train, torch.from_numpy(train.labels), spec, config, share, name="labeled")


def _unlabeled_feed(
    inputs: Inputs,
    method: Method,
    val: ImageSet | None,
    spec: ClassifierSpec,
    config: TrainConfig,
    *,
    share: BatchShare,
) -> Feed | None:
    """`mu` unlabelled images per labelled one, rounded to whole groups; None for a method that uses no view of them."""
    if not isinstance(method, SemiSupervised) or not method.views:
        return None
    share = replace(share, batch=round(share.batch * method.mu / share.groups) * share.groups)
    if inputs.pseudo is not None:
        return _shard_feed(inputs.pseudo, config, share, "unlabeled")
    images = _real_images(inputs, val)
    no_labels = torch.full((len(images),), -1)
    return _image_feed(images, no_labels, spec, config, share, name="unlabeled")


def _real_images(inputs: Inputs, val: ImageSet | None) -> ImageSet:
    """The training images of the target that serves as unlabelled data, without the validation images of the run."""
    real = inputs.real
    assert real is not None
    held = set(val.ids) if val is not None and real is inputs.target else set()
    return real.train.select([i for i, image_id in enumerate(real.train.ids) if image_id not in held])


def _image_feed(
    images: ImageSet,
    labels: torch.Tensor,
    spec: ClassifierSpec,
    config: TrainConfig,
    share: BatchShare,
    *,
    name: str,
) -> Feed:
    """A feed of target images: in memory if they fit into `data.resident_mb`, else each batch is decoded when it is needed."""
    side, seed = spec.resize or spec.resolution, config.seed
    if len(images) * spec.channels * side**2 <= config.data.resident_mb * _MB:
        pixels = stack(images, side, spec.channels)
        return ResidentFeed(pixels, labels, images.ids, share, seed=seed, name=name)
    return DecodingFeed(images, labels, share, resolution=side, channels=spec.channels, seed=seed, name=name)


def _shard_feed(pool: ShardPool, config: TrainConfig, share: BatchShare, name: str) -> Feed:
    """A feed of shards: in memory if they fit into `data.resident_mb`, else streamed."""
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


def _monitored(config: TrainConfig, target: Target | None) -> ImageSet | None:
    data = config.data
    if target is None or not data.monitor:
        return None
    labeled = choose_labeled(target, data.labels_per_class, data.label_seed)
    watched = choose_monitored(target, labeled, data.monitor, data.label_seed)
    return watched if len(watched) else None


def _fingerprints(inputs: Inputs, train: ImageSet | None, val: ImageSet | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if inputs.shards is not None:
        found["shards"] = inputs.shards.fingerprints
    if inputs.target is not None and train is not None and val is not None:
        found["target"] = {
            "name": inputs.target.name,
            "labeled": fingerprint(train),
            "labeled_images": len(train),
            "validation": fingerprint(val),
            "validation_images": len(val),
        }
    if inputs.pseudo is not None:
        found["unlabeled"] = inputs.pseudo.fingerprints
    if inputs.real is not None:
        found["unlabeled"] = [fingerprint(_real_images(inputs, val))]
    return found


def _notes(config: TrainConfig, inputs: Inputs, train: ImageSet | None, val: ImageSet | None) -> list[str]:
    target, pseudo = inputs.target, inputs.pseudo
    # ppgen and pptrain eval report duplicates of test images. Training does not: it opens no test image before its end.
    notes = [] if target is None else describe_target(target)
    notes += [] if target is None else [f"warning: target {target.name}: {doubt}" for doubt in target.doubts]
    if pseudo is not None and target is not None:
        planned = pseudo.planned_target
        if planned.name not in (None, target.name):  # synth samples have no target
            notes.append(
                f"note: the pseudo samples were made for target {planned.name!r}, not {target.name!r}"
            )
        elif planned.label_seed not in (None, config.data.label_seed):
            notes.append(
                f"note: the pseudo samples were conditioned on other images (label seed {planned.label_seed}) than the "
                f"labelled images of this run (label seed {config.data.label_seed})"
            )
    if train is not None and val is not None:
        small = len(np.setdiff1d(train.labels, val.labels))
        if not len(val):
            notes.append(
                "no validation images (too few labels, or data.val_fraction is 0): the last averaged weights are saved"
            )
        elif small:
            notes.append(f"{small} classes have too few labelled images to give any to validation")
    if inputs.real is not None:
        count = len(_real_images(inputs, val))
        notes.append(f"unlabelled images: {count} real training images of {inputs.real.name}")
    return notes
