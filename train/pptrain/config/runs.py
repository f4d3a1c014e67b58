"""The stages of a command that does not name all its data: they train on the directories that ppgen left under runs/."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from ppcore.errors import UserError
from ppcore.shards import INDEX, PLAN
from ppcore.storage import read_json
from ppcore.targets import may_be_named, target_name
from pptrain.config.load import identity, load_config
from pptrain.config.rule import method_name
from pptrain.config.settings import TrainConfig

RUNS = "runs"
# Settings that make sense for one of two stages only.
_OF_ONE_STAGE = ("out", "data.unlabeled", "data.labels_per_class")
# Settings that pre-training takes from a command that names a target: those of the network and of the machine.
_OF_EVERY_STAGE = ("seed", "model.arch", "data.resolution", "data.channels", "data.workers", "loop.")

Settings = dict[str, Any]
_P = TypeVar("_P")


@dataclass(frozen=True)
class MethodNeeds:
    """What the method of a command learns from.

    Attributes:
        name: the method that the user named; empty for the default.
        unlabeled: whether it takes unlabelled images.
        conditions: whether it predicts their conditions, so that synth directories serve as unlabelled images, too.
    """

    name: str
    unlabeled: bool
    conditions: bool


def default_out(config: TrainConfig) -> TrainConfig:
    """`config` with a run directory under runs/: its name has the data, the method and a hash of the settings that change the result."""
    digest = hashlib.sha256(json.dumps(identity(config), sort_keys=True).encode()).hexdigest()[:8]
    source = config.data.target or config.data.shards[0]
    name = Path(source.rstrip("/")).name.split(".")[0].replace("=", "-")
    kind = method_name(config) if config.data.target else "pretrain"
    return replace(config, out=f"{RUNS}/train-{name}-{kind}-{digest}")


def default_stages(
    overrides: Settings, preset: str | None, needs: MethodNeeds
) -> tuple[list[TrainConfig], list[str]]:
    """Pre-training on the newest synth directory, then fine-tuning on the target with the pseudo directory made for it.

    The target is the one in `overrides`, else that of the newest pseudo directory.

    Returns:
        One or both stages, and lines for the user that say what was chosen and how to choose otherwise.

    Raises:
        UserError: nothing to train on, or a setting that makes sense for one stage only while no target is given.
    """
    if overrides.get("data.target"):
        return _stages_of_target(overrides, preset, needs)
    synth, pseudo = newest("synth"), next(iter(find_pseudo()), None)
    if synth is None and pseudo is None:
        raise UserError(
            f"nothing to train on: no --target, no --shards, and no finished {RUNS}/synth-* or {RUNS}/pseudo-* directory; "
            f"run ppgen synth and ppgen pseudo first"
        )
    for name in _OF_ONE_STAGE if pseudo is not None else (*_OF_ONE_STAGE, "method.name"):
        if name in overrides:
            raise UserError(
                f"{name} applies to one stage, and without a target this command runs two; give --target or --shards"
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
            **(_unlabeled_set(pseudo.path, synth, needs) if needs.unlabeled else {}),
        }
        stages.append(_fine_tuning({**settings, **overrides}, preset, stages))
    return stages, [f"found {', '.join(found)}: the newest under {RUNS}/ (another target: --target)"]


def _stages_of_target(
    overrides: Settings, preset: str | None, needs: MethodNeeds
) -> tuple[list[TrainConfig], list[str]]:
    """The stages of a command that names its target, and lines for the user on what was found for it."""
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
    if needs.unlabeled:
        unlabeled, lines = _unlabeled(target, overrides.get("data.labels_per_class"), synth, pseudo, needs)
        notes += lines
    if not notes:
        notes.append(
            f"no other images found under {RUNS}/: training from scratch. ppgen synth makes images for pre-training, "
            f"ppgen pseudo --target {target} makes unlabelled images like the target's"
        )
    return [*stages, _fine_tuning({**unlabeled, **overrides}, preset, stages)], notes


def _unlabeled(
    target: str, labels: int | None, synth: Path | None, pseudo: Sequence[FoundPseudo], needs: MethodNeeds
) -> tuple[Settings, list[str]]:
    """(settings of the unlabelled set, lines for the user).

    Of the pseudo directories made for the target, one with `labels` labels per class is preferred, then the newest.
    """
    mine = [found for found in pseudo if found.is_for(target)]
    others = [f"{found.path} ({found.target})" for found in pseudo if found not in mine]
    lines = [f"not used, made for other targets: {', '.join(others)}"] if others else []
    if mine:
        chosen = next((found for found in mine if labels and found.labels_per_class == labels), mine[0])
        settings = _unlabeled_set(chosen.path, synth, needs)
        beside = f" and, half of every batch, {synth}" if len(settings["data.unlabeled"]) > 1 else ""
        lines.insert(
            0, f"unlabelled images: {chosen.path}, made for this target{beside} (others: --unlabeled DIR)"
        )
        few = chosen.labels_per_class
        if few and labels is None:
            lines.append(
                f"{chosen.path} was made from {few} labelled images per class, but training uses all labelled images "
                f"(--labels-per-class {few} uses the same ones)"
            )
        return settings, lines
    command = f"ppgen pseudo --target {target}"
    if needs.conditions and synth is not None:
        lines.insert(0, f"unlabelled images: {synth}, with their classes; {command} makes better ones")
        return {"data.unlabeled": [str(synth)]}, lines
    if needs.name:
        raise UserError(
            f"method {needs.name} needs unlabelled images, and no {RUNS}/pseudo-* directory was made for {target}; run {command}, or "
            f"give --unlabeled DIR"
        )
    return {}, lines


def _unlabeled_set(pseudo: Path, synth: Path | None, needs: MethodNeeds) -> Settings:
    """Settings of the unlabelled set: the pseudo directory, and for the default method also the synth directory.

    The images of pre-training, half of every batch, keep the network from forgetting source classes (docs/results.md has the gain).
    """
    if needs.name or synth is None or not same_source_classes(pseudo, synth):
        return {"data.unlabeled": [str(pseudo)]}
    return {"data.unlabeled": [str(pseudo), str(synth)], "data.weights": [0.5, 0.5]}


def _pre_training(synth: Path, settings: Settings, preset: str | None) -> TrainConfig:
    return default_out(load_config(None, {**settings, "data.shards": [str(synth)]}, preset=preset))


def _fine_tuning(settings: Settings, preset: str | None, before: list[TrainConfig]) -> TrainConfig:
    """The last stage, which starts from the weights of the stage in `before`, if there is one."""
    start = {"model.init": before[0].out} if before else {}
    config = load_config(None, {**settings, **start}, preset=preset)
    return config if config.out else default_out(config)


# ---- directories under runs/


@dataclass(frozen=True)
class _Source:
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Plan:
    """The part of any plan.json that describes the source."""

    source: _Source = _Source()


@dataclass(frozen=True)
class _Target:
    name: str
    labels_per_class: int | None = None


@dataclass(frozen=True)
class _Load:
    target: str | None = None


@dataclass(frozen=True)
class _PseudoPlan:
    """The part of a pseudo directory's plan.json that describes the target; `load.target` is the target as the user typed it."""

    target: _Target
    load: _Load | None = None


@dataclass(frozen=True)
class FoundPseudo:
    """A finished pseudo directory.

    Attributes:
        target: the target that it was made for, as the user typed it; only its name if the plan does not record more.
        labels_per_class: labelled images per class that conditioned it; None for all.
        name: name of that target.
        typed: whether the plan records what the user typed.
    """

    path: Path
    target: str
    labels_per_class: int | None
    name: str
    typed: bool

    def is_for(self, spec: str) -> bool:
        """Whether it was made for the target `spec`: the same name or place, or the same name if its place does not exist here."""
        by_name = self.typed and _asks_by_name(self.target, self.name)
        if self.target == spec or (by_name and _asks_by_name(spec, self.name)):
            return True
        try:
            recorded, asked = Path(self.target).resolve(), Path(spec).resolve()
            known = self.typed and (by_name or may_be_named(self.target) or recorded.exists())
        except (OSError, ValueError, RuntimeError):  # plan.json may hold text that is no path
            return False
        return recorded == asked or (not known and self.name == target_name(spec))

    def require_open_target(self) -> None:
        """Raise UserError if the plan names a place as its target: plan.json may come from anybody, so a place must be typed."""
        if not may_be_named(self.target):
            raise UserError(
                f"{self.path}/{PLAN} names the target {self.target!r}, a place outside the directory; give --target with that target"
            )


def newest(kind: str, root: str = RUNS) -> Path | None:
    """The finished `kind` directory (synth or pseudo) written last below `root`."""
    return next(iter(_finished(kind, root)), None)


def find_pseudo(root: str = RUNS) -> list[FoundPseudo]:
    """All finished pseudo directories below `root`, the one written last first. Raises UserError for a damaged plan."""
    return [_read(path) for path in _finished("pseudo", root)]


def same_source_classes(one: Path, other: Path) -> bool:
    """Whether two directories show the same source classes. Raises UserError for a damaged plan."""
    names = [_plan(path, _Plan).source.class_names for path in (one, other)]
    return bool(names[0]) and names[0] == names[1]


def _finished(kind: str, root: str) -> list[Path]:
    found = [p.parent for p in Path(root).glob(f"{kind}-*/{INDEX}")]
    return sorted(found, key=lambda p: (p / INDEX).stat().st_mtime, reverse=True)


def _plan(path: Path, kind: type[_P]) -> _P:
    try:
        return read_json(path / PLAN, kind)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}/{PLAN} is damaged ({error}); run ppgen verify on the directory") from error


def _read(path: Path) -> FoundPseudo:
    plan = _plan(path, _PseudoPlan)
    typed, target = plan.load and plan.load.target, plan.target
    return FoundPseudo(path, typed or target.name, target.labels_per_class, target.name, bool(typed))


def _asks_by_name(spec: str, name: str) -> bool:
    """Whether `spec` is the target's name, or `NAME=DIR`: the same data from any place."""
    return spec == name or spec.startswith(f"{name}=")
