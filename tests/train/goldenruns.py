"""Short runs of many kinds; as a program it prints their losses and weights as JSON, to be recorded anew when a change is meant:

.venv/bin/python tests/train/engine/test_golden_losses.py
"""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import torch
from toyshards import write

from pptrain.config import load_config
from pptrain.engine import train

_COMMON = {
    "data.resolution": 16,
    "optim.steps": 5,
    "optim.batch_size": 8,
    "loop.ema": 0.9,
    "loop.log_every": 1,
}
_COMMON |= {"loop.amp": "no", "loop.device": "cpu", "loop.tensorboard": False}
_METHODS = ("pi-model", "mean-teacher", "vat", "flexmatch", "freematch", "softmatch")


def settings(root: Path) -> dict[str, dict[str, Any]]:
    """Name -> settings of every run; what they read is written below `root`."""
    synth = str(write(root / "synth", [9, 4, 11, 8]))
    pseudo = str(write(root / "pseudo", [9, 4, 11, 7], kind="pseudo"))
    colour = str(write(root / "colour", [9, 4, 11, 8], channels=3, resolution=20, extension="jpg"))
    few = {"data.target": "digits", "data.labels_per_class": 2, "data.unlabeled": pseudo}
    more = {"data.target": "digits", "data.labels_per_class": 12, "data.monitor": 20, "loop.eval_every": 2}
    parts = {"data.groups": 2, "data.lanes": 2, "optim.accumulate": 2, "optim.name": "sgd", "optim.clip": 0.5}
    crops = {"views.crop": "resized", "views.labeled": "weak", "optim.schedule": "steps"}
    split = {"method.batch_norm": "split"}
    uda = {**few, "method.name": "uda", "method.options": {"mu": 2, "tsa": "log"}}
    return {
        "supervised": {**more, "method.options": {"mixup": 0.4, "cutmix": 0.4}},
        "streamed": {"data.shards": synth, "data.resident_mb": 0, **parts},
        "crops": {"data.shards": colour, **crops},
        "uda-split": {**uda, **split},
        **{name: {**few, "method.name": name, "method.options": {"mu": 2.0}} for name in _METHODS},
        "feature-consistency": {
            **few,
            **split,
            "method.name": "feature-consistency",
            "method.options": {"mu": 2.0},
        },
    }


def main(root: Path) -> None:
    """Run them all below `root`."""
    torch.set_num_threads(1)
    found = {}
    for name, chosen in settings(root).items():
        out = root / "runs" / name
        train(load_config(overrides={**_COMMON, **chosen, "out": str(out)}), quiet=True)
        rows = list(csv.DictReader((out / "metrics.csv").open()))
        weights = (out / "model" / "model.safetensors").read_bytes()
        found[name] = {
            "loss": [float(row["loss"]) for row in rows],
            "weights": hashlib.sha256(weights).hexdigest(),
        }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
