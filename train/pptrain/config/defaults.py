"""What `pptrain run` does where no stage was asked for outright: it trains on what ppgen left under runs/."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ppcore.errors import UserError
from pptrain.config.adaptive import method_name
from pptrain.config.found import RUNS, FoundPseudo, find_pseudo, newest, same_source_classes
from pptrain.config.load import identity, load_config
from pptrain.config.settings import TrainConfig

_OF_ONE_STAGE = ("out", "data.unlabeled", "data.labels_per_class")
# What pre-training takes over from a command that names a target: the network and the machine, nothing of how the target is learnt.
_OF_EVERY_STAGE = ("seed", "model.arch", "data.resolution", "data.channels", "data.workers", "loop.")

Settings = dict[str, Any]


@dataclass(frozen=True)
class Wanted:
    """What the method that was asked for, or the default one, learns from.

    Attributes:
        name: of the method; empty for the default.
        unlabeled: whether it takes unlabelled images.
        conditions: whether it predicts their conditions, so that synth directories serve as well.
    """

    name: str
    unlabeled: bool
    conditions: bool


def default_out(config: TrainConfig) -> TrainConfig:
    """`config` with a run directory named after what it is and a hash of the settings that change its result."""
    digest = hashlib.sha256(json.dumps(identity(config), sort_keys=True).encode()).hexdigest()[:8]
    source = config.data.target or config.data.shards[0]
    name = Path(source.rstrip("/")).name.split(".")[0].replace("=", "-")
    kind = method_name(config) if config.data.target else "pretrain"
    return replace(config, out=f"{RUNS}/train-{name}-{kind}-{digest}")


def default_stages(
    overrides: Settings, preset: str | None, wanted: Wanted
) -> tuple[list[TrainConfig], list[str]]:
    """Pre-training on the newest synth directory, then the target with the pseudo directory made for it.

    The target is the one given, else the newest pseudo directory's.

    Returns:
        One or both stages, and lines for the user that say what was chosen, and how to choose otherwise.

    Raises:
        UserError: nothing to train on, or a setting that belongs to one stage only while no target is given.
    """
    if overrides.get("data.target"):
        return _stages_of_target(overrides, preset, wanted)
    synth, pseudo = newest("synth"), next(iter(find_pseudo()), None)
    if synth is None and pseudo is None:
        raise UserError(
            f"nothing to train on: no --target, no --shards, and no finished {RUNS}/synth-* or {RUNS}/pseudo-* directory; "
            f"run ppgen synth and ppgen pseudo first"
        )
    for name in _OF_ONE_STAGE if pseudo is not None else (*_OF_ONE_STAGE, "method.name"):
        if name in overrides:
            raise UserError(
                f"{name} was given without a target, and belongs to one stage of two; give --target or --shards"
            )
    shared = {name: value for name, value in overrides.items() if not name.startswith("method.")}
    stages = [] if synth is None else [_pre_training(synth, shared, preset)]
    found = [str(synth)] if synth is not None else []
    if pseudo is not None:
        pseudo.require_open_target()
        found.append(f"{pseudo.path}, made for {pseudo.target}")
        settings = {
            "data.target": pseudo.target,
            "data.labels_per_class": pseudo.labels_per_class or 0,
            **(_mixed(pseudo.path, synth, wanted) if wanted.unlabeled else {}),
        }
        stages.append(_target_stage({**settings, **overrides}, preset, stages))
    return stages, [f"found {', '.join(found)}: the newest under {RUNS}/ (another target: --target)"]


def _stages_of_target(
    overrides: Settings, preset: str | None, wanted: Wanted
) -> tuple[list[TrainConfig], list[str]]:
    """The stages of a command that names its target, and lines on what was found for it."""
    target = overrides["data.target"]
    synth, pseudo = newest("synth"), find_pseudo()
    stages, notes = [], []
    if synth is not None:
        shared = {name: value for name, value in overrides.items() if name.startswith(_OF_EVERY_STAGE)}
        stages.append(_pre_training(synth, shared, preset))
        notes.append(
            f"pre-training on {synth}, the newest under {RUNS}/ (other weights: --init RUN, none: --init none)"
        )
    unlabeled: Settings = {}
    if wanted.unlabeled:
        unlabeled, lines = _unlabeled(target, overrides.get("data.labels_per_class"), synth, pseudo, wanted)
        notes += lines
    if not notes:
        notes.append(
            f"nothing under {RUNS}/ to learn from besides: training from scratch; ppgen synth makes images for pre-training, "
            f"ppgen pseudo --target {target} unlabelled ones like the target's"
        )
    return [*stages, _target_stage({**unlabeled, **overrides}, preset, stages)], notes


def _unlabeled(
    target: str, labels: int | None, synth: Path | None, pseudo: Sequence[FoundPseudo], wanted: Wanted
) -> tuple[Settings, list[str]]:
    """(settings of the unlabelled set, lines for the user): of the target's pseudo directories one of as many labels, else the newest."""
    mine = [found for found in pseudo if found.is_for(target)]
    others = [f"{found.path} ({found.target})" for found in pseudo if found not in mine]
    lines = [f"left alone, made for other targets: {', '.join(others)}"] if others else []
    if mine:
        chosen = next((found for found in mine if labels and found.labels_per_class == labels), mine[0])
        mixed = _mixed(chosen.path, synth, wanted)
        beside = f" and, half of every batch, {synth}" if len(mixed["data.unlabeled"]) > 1 else ""
        lines.insert(
            0, f"unlabelled images: {chosen.path}, made for this target{beside} (others: --unlabeled DIR)"
        )
        few = chosen.labels_per_class
        if few and labels is None:
            lines.append(
                f"it was made from {few} labelled images a class, and all are trained on (--labels-per-class {few} for those)"
            )
        return mixed, lines
    better = f"ppgen pseudo --target {target}"
    if wanted.conditions and synth is not None:
        lines.insert(
            0, f"unlabelled images: those of {synth}, with their classes; {better} makes better ones"
        )
        return {"data.unlabeled": [str(synth)]}, lines
    if wanted.name:
        raise UserError(
            f"method {wanted.name} needs unlabelled images, and no {RUNS}/pseudo-* directory was made for {target}; run {better}, or "
            f"give --unlabeled DIR"
        )
    return {}, lines


def _mixed(pseudo: Path, synth: Path | None, wanted: Wanted) -> Settings:
    """The unlabelled set by default: images like the target's and, in equal parts, all that pre-training saw, so that no source class
    is forgotten (docs/results.md has what that is worth). A method that is named learns from the first alone."""
    if wanted.name or synth is None or not same_source_classes(pseudo, synth):
        return {"data.unlabeled": [str(pseudo)]}
    return {"data.unlabeled": [str(pseudo), str(synth)], "data.weights": [0.5, 0.5]}


def _pre_training(synth: Path, settings: Settings, preset: str | None) -> TrainConfig:
    return default_out(load_config(None, {**settings, "data.shards": [str(synth)]}, preset=preset))


def _target_stage(settings: Settings, preset: str | None, before: list[TrainConfig]) -> TrainConfig:
    """The last stage, which starts from the one before."""
    start = {"model.init": before[0].out} if before else {}
    config = load_config(None, {**settings, **start}, preset=preset)
    return config if config.out else default_out(config)
