"""Trains classifiers on synthetic shards and a few labelled target images; evaluates, applies and exports them.

`train`, `evaluate`, `predict` and `export` do what the commands `pptrain run` (one stage), `eval`, `predict` and `export` do.
They are imported when they are used, because they import torch and `pptrain --help` must be fast.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pptrain.engine import Result
    from pptrain.evaluation import evaluate_model as evaluate
    from pptrain.evaluation import export_model as export
    from pptrain.evaluation import predict_images as predict

__all__ = ["evaluate", "export", "predict", "train"]

_LAZY = {"evaluate": "evaluate_model", "export": "export_model", "predict": "predict_images"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module("pptrain.evaluation"), _LAZY[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def train(
    settings: Mapping[str, Any],
    *,
    preset: str | None = None,
    config: str | None = None,
    quiet: bool = False,
    trust_code: bool = False,
) -> Result:
    """Train one classifier, or resume an interrupted run, or return the result of a finished one.

        from pptrain import train

        pretrained = train({"data.shards": "runs/synth-letters", "out": "runs/pretrained"})
        tuned = train({"data.target": "digits", "model.init": str(pretrained.out), "out": "runs/tuned"})
        print(tuned.accuracy)

    Args:
        settings: dotted name -> value, as `pptrain run --set` takes them; `out` (the run directory) and one of `data.shards` and
            `data.target` are required. :mod:`pptrain.config.settings` documents all names and their defaults.
        preset: named settings (`paper`); `settings` win over it.
        config: YAML file of settings, such as the config.yaml of another run; `settings` win over it.
        quiet: print nothing.
        trust_code: run the code that the initial model or the teacher names. The architecture in `settings` is always allowed.

    Returns:
        The result: `out` (run directory, which :func:`evaluate` and `model.init` take), `accuracy` on the test images (None for
        pre-training), `val_accuracy`, `steps`, `seconds`, `details`.

    Raises:
        UserError: an unknown setting, a wrong value, or data that does not fit together. Nothing has been written in that case.
    """
    from ppcore.trust import Trust
    from pptrain.config import load_config
    from pptrain.engine import train as train_stage

    return train_stage(
        load_config(config, dict(settings), preset=preset), quiet=quiet, trust=Trust(trust_code)
    )
