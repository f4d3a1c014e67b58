"""The data and models that a configuration names, checked against the method and opened. Nothing is written."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ppcore.classifiers import Classifier, load_classifier
from ppcore.console import printable
from ppcore.errors import UserError
from ppcore.kits import KITS, is_published
from ppcore.targets import Target, load_target
from ppcore.trust import Trust
from pptrain.config import TrainConfig, method_name
from pptrain.data import ConditionTable, ShardPool, open_conditions, open_shard_pool
from pptrain.methods import Method, SemiSupervised, make_method

REAL = "target:"  # prefix of a target whose training images serve as unlabelled images


@dataclass(frozen=True)
class Inputs:
    """Everything a configuration names, opened.

    Attributes:
        initial: model whose weights training starts from.
        teacher: model to distil from; it has the classes that it teaches.
        shards: synth directories to pre-train on; None if there is a `target`.
        target: the labelled task; None if there are `shards`.
        pseudo: shards of unlabelled samples.
        conditions: conditions of the samples in `pseudo`, for methods that predict them.
        notes: lines for the user.
        teacher_name: `model.teacher`, or the source classifier that the plan of `pseudo` names.
        real: target whose training images are the unlabelled images; may be `target` itself.
    """

    initial: Classifier | None
    teacher: Classifier | None
    shards: ShardPool | None
    target: Target | None
    pseudo: ShardPool | None
    real: Target | None
    conditions: ConditionTable | None = None
    teacher_name: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def class_names(self) -> tuple[str, ...]:
        return _class_names(self.shards, self.target)


def open_inputs(config: TrainConfig, trust: Trust) -> Inputs:
    """Check that the settings of `config` fit each other, then open the data and models that they name.

    Raises:
        UserError: an input is missing, not used by the method, cannot be opened, or has other classes.
    """
    method = make_method(method_name(config), config.method.options)
    _check_training_data(config)
    _check_method_data(config, method)
    data, model = config.data, config.model
    trust = replace(trust, typed=(*trust.typed, model.arch))
    shards = open_shard_pool(data.shards, "synth") if data.shards else None
    target = open_target(data.target) if data.target else None
    pseudo = real = None
    if data.unlabeled and not data.unlabeled[0].startswith(REAL):
        pseudo = open_shard_pool(data.unlabeled, None if method.needs_conditions else "pseudo")
    elif data.unlabeled:
        name = data.unlabeled[0].removeprefix(REAL)
        real = target if name == data.target else load_target(name)
    conditions = open_conditions(pseudo) if pseudo is not None and method.needs_conditions else None
    taught = conditions.class_names if conditions is not None else _class_names(shards, target)
    teacher, notes = model.teacher, list[str]()
    if not teacher and not config.method.name and pseudo is not None:
        teacher, notes = planned_classifier(pseudo)
    opened = None
    if teacher:
        try:
            opened = _open_teacher(teacher, config, taught, method, trust)
        except UserError as error:
            if model.teacher:
                raise
            teacher, notes = "", [f"the source classifier {teacher} is not used as the teacher: {error}"]
    return Inputs(
        initial=load_classifier(model.init, trust=trust) if model.init else None,
        teacher=opened,
        shards=shards,
        target=target,
        pseudo=pseudo,
        real=real,
        conditions=conditions,
        teacher_name=teacher,
        notes=notes,
    )


def open_target(spec: str) -> Target:
    """A target to train on. Raises UserError if it cannot be opened, or has fewer than two classes or no test images."""
    target = load_target(spec)
    if len(np.unique(target.train.labels)) < 2:
        raise UserError(
            f"target {target.name!r} has training images of one class only; give images of at least two classes"
        )
    if not len(target.test):
        raise UserError(
            f"target {target.name!r} has no test images; give it a test split, or at least 5 images of a class (one in five is held "
            f"out for the test)"
        )
    return target


def _class_names(shards: ShardPool | None, target: Target | None) -> tuple[str, ...]:
    if shards is not None:
        return tuple(shards.class_names)
    assert target is not None
    return target.classes


def _check_training_data(config: TrainConfig) -> None:
    data = config.data
    if data.shards and data.target:
        raise UserError(
            "both --shards and --target were given; pre-train on the shards first, then fine-tune with --target and --init RUN"
        )
    if not data.shards and not data.target:
        raise UserError("no training data; give --target (labelled images) or --shards (a synth directory)")
    if len(data.unlabeled) > 1 and any(entry.startswith(REAL) for entry in data.unlabeled):
        raise UserError(
            "unlabelled images come from shard directories or from one target:NAME, not from both"
        )


def _check_method_data(config: TrainConfig, method: Method) -> None:
    data, name = config.data, method_name(config)
    semi_supervised = isinstance(method, SemiSupervised)
    if data.unlabeled and not semi_supervised:
        raise UserError(f"method {name} takes no unlabelled images; drop --method, or add --method uda")
    if semi_supervised and not data.unlabeled:
        raise UserError(
            f"method {name} needs unlabelled images; give --unlabeled DIR or --unlabeled target:NAME"
        )
    if semi_supervised and not data.target:
        raise UserError(f"method {name} needs labelled target images; give --target")
    if method.needs_conditions and any(entry.startswith(REAL) for entry in data.unlabeled):
        raise UserError(
            f"method {name} predicts the conditions of generated samples, and real images have none; give --unlabeled a directory of "
            f"ppgen pseudo or ppgen synth, or add --method uda"
        )
    if method.needs_teacher and not config.model.teacher:
        raise UserError(f"method {name} needs a teacher; give --teacher MODEL")
    if config.model.teacher and not (method.needs_teacher or method.needs_conditions):
        raise UserError(f"method {name} takes no teacher; drop --teacher or use --method soft-target")


def planned_classifier(pseudo: ShardPool) -> tuple[str, list[str]]:
    """(the source classifier that a plan names if it is a kit's or a published one, else ""; a line for the user if it is a place).

    A plan may come from anybody, so a place that it names is not opened.
    """
    load = pseudo.sets[0].plan.get("load")
    if pseudo.sets[0].kind != "pseudo" or not isinstance(load, dict):
        return "", []
    classifier, source = load.get("classifier"), load.get("source")
    if not isinstance(classifier, str):
        return (source if isinstance(source, str) and source in KITS else ""), []
    if classifier in KITS or (is_published(classifier) and not Path(classifier).exists()):
        return classifier, []
    return "", [
        f"no teacher: --teacher {printable(classifier)} lets the source classifier name target classes for the samples"
    ]


def _open_teacher(
    name: str, config: TrainConfig, class_names: tuple[str, ...], method: Method, trust: Trust
) -> Classifier:
    """The teacher. One whose predictions are learnt must have the classes of the target, or of the source for condition prediction."""
    teacher = load_classifier(name, trust=trust)
    of_source = method.needs_conditions
    learnt = not of_source or getattr(method, "target", "") == "classifier"
    if learnt and teacher.spec.class_names != class_names:
        owner, advice = "source", "give the source classifier"
        if not of_source:
            again = f"pptrain run --target {config.data.target} --init {config.model.teacher}"
            owner, advice = "target", f"fine-tune it first: {again}"
        raise UserError(
            f"teacher {config.model.teacher} has {teacher.spec.num_classes} other classes than the {len(class_names)} of the "
            f"{owner}; {advice}"
        )
    return teacher
