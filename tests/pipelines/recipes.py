"""Recipes that tests run or read."""

from __future__ import annotations

from typing import Any

SMALL = """
title: Small & quick
seeds: [0, 1]
params: {steps: 2, mu: 2, label: 1}
generate:
  letters: {kind: synth, source: letters, classes: "0-3,14,18", per_class: 4, batch_size: 8}
  similar: {kind: pseudo, source: letters, target: digits, labels_per_class: $label, per_image: 1, per_seed: true, batch_size: 8}
defaults: {data.target: digits, data.labels_per_class: $label, data.monitor: 20, optim.steps: $steps, optim.batch_size: 8,
           loop.log_every: 1, loop.eval_every: 1, loop.tensorboard: false}
train:
  pretrain: {data.target: "", data.labels_per_class: 0, data.monitor: 0, data.shards: [letters]}
  scratch: {}
  both: {method.name: uda, method.options: {mu: $mu}, data.unlabeled: [similar], model.init: pretrain}
rows: {Scratch: scratch, PP + P-SSL: both}
compare: [Scratch]
notes: [A note.]
"""
"""A whole experiment of seconds."""


def content(**changes: Any) -> dict[str, Any]:
    """The content of a recipe that is read and expanded but never run."""
    return {
        "title": "t",
        "seeds": [0, 1],
        "params": {"images": 2, "per": 3},
        "generate": {
            "letters": {"kind": "synth", "source": "letters", "per_class": "$images"},
            "similar": {"kind": "pseudo", "target": "digits", "per_image": "$per", "per_seed": True},
        },
        "defaults": {"data.target": "digits"},
        "train": {
            "pretrain": {"data.target": "", "data.shards": ["letters"]},
            "scratch": None,
            "both": {"model.init": "pretrain", "data.unlabeled": ["similar"], "method.name": "uda"},
        },
        "rows": {"Scratch": "scratch", "PP + P-SSL": "both"},
        "compare": ["Scratch"],
    } | changes
