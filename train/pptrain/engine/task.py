"""A configuration made whole: every default filled in, every input opened and checked, nothing written yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ppcore.classifiers import Classifier, ClassifierSpec
from ppcore.errors import UserError
from ppcore.seeds import derive
from ppcore.targets import ImageSet, Target, stack
from ppcore.trust import NOBODY, Trust
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
)
from pptrain.engine.inputs import Inputs, open_inputs
from pptrain.engine.process_group import ProcessGroup
from pptrain.engine.resolve import resolve_config, split_labeled
from pptrain.methods import Method, SemiSupervised, SourceSide, make_method
from pptrain.models import make_network, make_source_head, make_spec

_MB = 1 << 20


@dataclass(frozen=True)
class Task:
    """A run ready to start.

    Attributes:
        config: resolved: nothing in it is "automatic" any more, except what :mod:`pptrain.engine.choice` measures and what does not
            change the result.
        spec: of the classifier to be.
        net: the network, at its start; `started` says how.
        labeled, unlabeled: feeds of training images; images an epoch is counted in come from `labeled`.
        val: validation images, None when there are none.
        monitor: training images that are only watched, None when there are none.
        test: opens the test images; called once, at the very end. None for pre-training.
        fingerprints: what identifies the data.
        notes: lines for the user.
        source: of methods that predict conditions.
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


def open_task(config: TrainConfig, group: ProcessGroup, trust: Trust = NOBODY) -> Task:
    """Open what `config` names and resolve the rest of it.

    Args:
        group: this process among those that train together.
        trust: which code the initial model and the teacher may name, beside the architecture that `config` asks for.

    Raises:
        UserError: anything that does not fit together.
    """
    inputs = open_inputs(config, trust)
    config, chosen = resolve_config(config, inputs, group)
    method = make_method(config.method.name, config.method.options)
    data, target = config.data, inputs.target
    spec = make_spec(config.model.arch, inputs.class_names, data.channels, data.resolution, inputs.initial)
    torch.manual_seed(derive(config.seed, "start"))
    net, started = make_network(spec, inputs.initial, config.model.init)
    share = BatchShare(
        config.optim.batch_size // config.optim.accumulate, group.rank, group.world_size, data.groups
    )
    train, val = split_labeled(config, target) if target is not None else (None, None)
    notes = [*chosen, *_notes(config, inputs, val)] if group.is_main else []
    source, how = _source_side(config, inputs, method, net, train)
    return Task(
        config=config,
        spec=spec,
        net=net,
        started=started,
        method=method,
        teacher=inputs.teacher,
        labeled=_labeled_feed(inputs.shards, train, spec, config, share),
        unlabeled=_unlabeled_feed(inputs, method, val, spec, config, share=share),
        val=val if val is not None and len(val) else None,
        monitor=_monitored(config, target),
        test=(lambda: target.test) if target is not None else None,
        fingerprints=_fingerprints(inputs, train, val),
        notes=[*notes, *how],
        source=source,
    )


def _source_side(
    config: TrainConfig, inputs: Inputs, method: Method, net: nn.Module, train: ImageSet | None
) -> tuple[SourceSide | None, list[str]]:
    """(what a method that predicts conditions needs, lines for the user)."""
    conditions = inputs.conditions
    if conditions is None or train is None:
        return None, []
    torch.manual_seed(derive(config.seed, "source head"))
    head, how = make_source_head(net, conditions.class_names, inputs.initial)
    labeled = conditions.of_targets(train.ids)
    if labeled is None and getattr(method, "labelled_soft", 0) > 0:
        raise UserError(
            "labelled_soft needs the soft label of every labelled image, and some conditioned no sample; make the pseudo set from the "
            "same labelled images, or leave labelled_soft at 0"
        )
    return SourceSide(head, conditions, labeled), [how]


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
    return _image_feed(train, torch.from_numpy(train.labels), spec, share, seed=config.seed, name="labeled")


def _unlabeled_feed(
    inputs: Inputs,
    method: Method,
    val: ImageSet | None,
    spec: ClassifierSpec,
    config: TrainConfig,
    *,
    share: BatchShare,
) -> Feed | None:
    """`mu` unlabelled images a labelled one, in whole groups; none for a method that looks at no view of them."""
    if not isinstance(method, SemiSupervised) or not method.views:
        return None
    share = replace(share, batch=round(share.batch * method.mu / share.groups) * share.groups)
    if inputs.pseudo is not None:
        return _shard_feed(inputs.pseudo, config, share, "unlabeled")
    images = _real_images(inputs, val)
    no_labels = torch.full((len(images),), -1)
    return _image_feed(images, no_labels, spec, share, seed=config.seed, name="unlabeled")


def _real_images(inputs: Inputs, val: ImageSet | None) -> ImageSet:
    """The training images of the target that serves as unlabelled data, without the run's own validation images."""
    real = inputs.real
    assert real is not None
    held = set(val.ids) if val is not None and real is inputs.target else set()
    return real.train.select([i for i, image_id in enumerate(real.train.ids) if image_id not in held])


def _image_feed(
    images: ImageSet, labels: torch.Tensor, spec: ClassifierSpec, share: BatchShare, *, seed: int, name: str
) -> ResidentFeed:
    """Target images held in memory."""
    pixels = stack(images, spec.resize or spec.resolution, spec.channels)
    return ResidentFeed(pixels, labels, images.ids, share, seed=seed, name=name)


def _shard_feed(pool: ShardPool, config: TrainConfig, share: BatchShare, name: str) -> Feed:
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


def _notes(config: TrainConfig, inputs: Inputs, val: ImageSet | None) -> list[str]:
    target, pseudo = inputs.target, inputs.pseudo
    # Of duplicates ppgen and pptrain eval tell: here no test image is looked at before training ends.
    notes = [] if target is None else [f"warning: target {target.name}: {note}" for note in target.notes]
    if pseudo is not None and target is not None:
        planned = pseudo.planned_target
        if planned.name not in (None, target.name):  # samples of source classes were made for no target
            notes.append(
                f"note: the pseudo samples were made for target {planned.name!r}, not {target.name!r}"
            )
        elif planned.label_seed not in (None, config.data.label_seed):
            notes.append(
                f"note: the pseudo samples were conditioned on other images (label seed {planned.label_seed}) than the "
                f"labelled ones (label seed {config.data.label_seed})"
            )
    if target is not None and not config.data.val_fraction:
        notes.append(
            "no validation split (too few labels, or none asked for): the last averaged weights are kept"
        )
    if inputs.real is not None:
        count = len(_real_images(inputs, val))
        notes.append(f"unlabelled images: {count} real training images of {inputs.real.name}")
    return notes
