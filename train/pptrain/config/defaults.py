"""What `pptrain run` does when nothing is asked for: train on what ppgen left under runs/."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ppcore.errors import UserError
from ppcore.shards import INDEX, PLAN
from ppcore.storage import read_json
from ppcore.targets import may_be_named
from ppcore.trust import is_remembered, target_words
from pptrain.config.load import identity, load_config
from pptrain.config.settings import TrainConfig

RUNS = "runs"
# Letters are far from digits: the textbook weight, sharpening and threshold force them into digit classes and lose accuracy.
_GENTLE = {"mu": 2.0, "lambda_u": 0.1, "threshold": 0.0, "temperature": 1.0}
_OF_ONE_STAGE = ("out", "data.unlabeled", "method.name", "data.labels_per_class")


@dataclass(frozen=True)
class _Target:
    name: str
    labels_per_class: int | None = None


@dataclass(frozen=True)
class _Load:
    target: str | None = None


@dataclass(frozen=True)
class _PseudoPlan:
    """What a pseudo directory's plan.json says of its target; `load` is how ppgen was asked to load it."""

    fingerprint: str
    target: _Target
    load: _Load | None = None


def default_out(config: TrainConfig) -> TrainConfig:
    """`config` with a run directory named after what it is and a hash of the settings that change its result."""
    digest = hashlib.sha256(json.dumps(identity(config), sort_keys=True).encode()).hexdigest()[:8]
    source = config.data.target or config.data.shards[0]
    name = Path(source.rstrip("/")).name.split(".")[0].replace("=", "-")
    kind = config.method.name if config.data.target else "pretrain"
    return replace(config, out=f"{RUNS}/train-{name}-{kind}-{digest}")


def newest(kind: str, root: str = RUNS) -> Path | None:
    """The finished `kind` directory (synth or pseudo) written last below `root`."""
    found = [p.parent for p in Path(root).glob(f"{kind}-*/{INDEX}")]
    return max(found, key=lambda p: (p / INDEX).stat().st_mtime, default=None)


def default_stages(overrides: dict[str, Any], preset: str | None) -> tuple[list[TrainConfig], list[str]]:
    """Pre-training on the newest synth directory, then P-SSL on the newest pseudo directory's target.

    Returns:
        One or both stages, and lines for the user that say what was chosen.

    Raises:
        UserError: there is neither, or a setting was given that belongs to one stage only.
    """
    shards, pseudo = newest("synth"), newest("pseudo")
    if shards is None and pseudo is None:
        raise UserError(
            f"nothing to train on: no --target, no --shards, and no finished {RUNS}/synth-* or {RUNS}/pseudo-* directory; "
            f"run ppgen synth and ppgen pseudo first"
        )
    for name in _OF_ONE_STAGE:
        if name in overrides:
            raise UserError(
                f"{name} was given without a target, and belongs to one stage of two; give --target or --shards"
            )
    notes = [f"found {', '.join(str(p) for p in (shards, pseudo) if p is not None)}"]
    stages = []
    settings = dict(overrides)
    if shards is not None:
        stages.append(
            default_out(load_config(None, {**settings, "data.shards": [str(shards)]}, preset=preset))
        )
        settings["model.init"] = stages[0].out
    if pseudo is not None:
        notes.append("P-SSL with gentle settings: " + ", ".join(f"{k}={v}" for k, v in _GENTLE.items()))
        stages.append(default_out(load_config(None, {**_semi_supervised(pseudo), **settings}, preset=preset)))
    return stages, notes


def _semi_supervised(pseudo: Path) -> dict[str, Any]:
    """Settings of UDA on a pseudo directory and the target that it was made for."""
    try:
        plan = read_json(pseudo / PLAN, _PseudoPlan)
    except (OSError, ValueError) as error:
        raise UserError(f"{pseudo}/{PLAN} is damaged ({error}); run ppgen verify on the directory") from error
    target = (plan.load and plan.load.target) or plan.target.name
    if not may_be_named(target) and not is_remembered(target_words(plan.fingerprint, target)):
        raise UserError(
            f"{pseudo} was made elsewhere for the target {target!r}, a place outside the directory; give --target, --unlabeled {pseudo} "
            "and --method uda"
        )
    return {
        "data.target": target,
        "data.unlabeled": [str(pseudo)],
        "data.labels_per_class": plan.target.labels_per_class or 0,
        "method.name": "uda",
        "method.options": _GENTLE,
    }
