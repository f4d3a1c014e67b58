"""What `pptrain run` does when it is told nothing: find what ppgen left under runs/."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from ppcore.errors import UserError
from ppcore.shards import INDEX, PLAN
from pptrain.config.load import TrainConfig, identity, load_config

RUNS = "runs"
# Letters are far from digits: the textbook weight, sharpening and threshold force them into digit classes and lose accuracy.
_GENTLE = {"mu": 2.0, "lambda_u": 0.1, "threshold": 0.0, "temperature": 1.0}


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


def default_stages(overrides: dict[str, Any], preset: str | None) -> list[TrainConfig]:
    """Pre-training on the newest synth directory, then P-SSL on the newest pseudo directory's target.

    Raises:
        UserError: there is neither.
    """
    shards, pseudo = newest("synth"), newest("pseudo")
    if shards is None and pseudo is None:
        raise UserError(
            f"nothing to train on: no --target, no --shards, and no finished {RUNS}/synth-* or {RUNS}/pseudo-* directory; "
            f"run ppgen synth and ppgen pseudo first"
        )
    print(f"found {', '.join(str(p) for p in (shards, pseudo) if p is not None)}")
    stages = []
    for name in ("out", "data.unlabeled", "method.name", "data.labels_per_class"):
        if name in overrides:
            raise UserError(
                f"{name} was given without a target, and belongs to one stage of two; give --target or --shards"
            )
    common = dict(overrides)
    if shards is not None:
        stages.append(default_out(load_config(None, {**common, "data.shards": [str(shards)]}, preset=preset)))
    if pseudo is not None:
        plan = json.loads((pseudo / PLAN).read_text())
        tuned = {
            "data.target": (plan.get("load") or {}).get("target") or plan["target"]["name"],
            "data.unlabeled": [str(pseudo)],
            "data.labels_per_class": plan["target"].get("labels_per_class") or 0,
            "method.name": "uda",
            "method.options": _GENTLE,
        }
        if stages:
            tuned["model.init"] = stages[0].out
            common.pop("model.init", None)
        print("P-SSL with gentle settings: " + ", ".join(f"{k}={v}" for k, v in _GENTLE.items()))
        stages.append(default_out(load_config(None, {**tuned, **common}, preset=preset)))
    return stages
