"""Settings from presets, YAML and the command line, checked; and written with the run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from ppcore.errors import UserError
from pptrain.config.settings import TrainConfig
from pptrain.config.typed import from_dict, set_path

__all__ = ["CONFIG_FILE", "PRESETS", "TrainConfig", "check", "differences", "load_config", "save_config"]

CONFIG_FILE = "config.yaml"


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {  # the settings the paper's group published later, for images of 224 pixels
        "optim": {
            "name": "sgd",
            "lr": 0.01,
            "momentum": 0.9,
            "weight_decay": 1e-4,
            "batch_size": 64,
            "epochs": 200.0,
            "schedule": "steps",
            "milestones": [0.3, 0.6, 0.8],
            "gamma": 0.1,
            "warmup": 0,
        },
        "views": {"crop": "resized", "min_area": 0.08, "labeled": "weak"},
        "loop": {"ema": 0.0},
    }
}

# Settings that change where and how fast a run goes, not what comes out of it.
_FREE = (
    "out",
    "data.workers",
    "loop.checkpoint_every",
    "loop.compile",
    "loop.device",
    "loop.log_every",
    "loop.tensorboard",
    "loop.threads",
    "loop.trackers",
)


def load_config(
    path: str | None = None, overrides: dict[str, Any] | None = None, *, preset: str | None = None
) -> TrainConfig:
    """Defaults, then the preset, then the YAML file, then `overrides` (dotted names); the last one wins.

    Raises:
        UserError: unreadable file, unknown key (the nearest name is suggested), wrong type, or a value out of range.
    """
    values: dict[str, Any] = {}
    if preset is not None:
        if preset not in PRESETS:
            raise UserError(f"unknown preset {preset!r}; expected one of {', '.join(PRESETS)}")
        values = _merged(values, PRESETS[preset])
    if path is not None:
        values = _merged(values, _read_yaml(path))
    for name, value in (overrides or {}).items():
        set_path(values, name, value)
    config = from_dict(TrainConfig, values)
    check(config)
    return config


def save_config(config: TrainConfig, folder: Path) -> None:
    """Write the resolved configuration as `config.yaml`, which `pptrain run --config` takes."""
    temporary = folder / f".tmp-{CONFIG_FILE}"
    temporary.write_text(yaml.safe_dump(asdict(config), sort_keys=False))
    temporary.replace(folder / CONFIG_FILE)


def differences(old: TrainConfig, new: TrainConfig) -> list[str]:
    """`name old -> new` for every setting that changes the result of a run."""
    before, after = identity(old), identity(new)
    return [
        f"{name} {before.get(name)!r} -> {after.get(name)!r}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def identity(config: TrainConfig) -> dict[str, Any]:
    """Dotted name -> value of every setting that changes the result of a run."""
    return {name: value for name, value in _flat(asdict(config)).items() if name not in _FREE}


_CHOICES = {
    "method.batch_norm": ("joint", "labeled", "split"),
    "optim.name": ("adamw", "sgd"),
    "optim.schedule": ("cosine", "steps", "constant"),
    "views.labeled": ("none", "weak", "strong"),
    "views.crop": ("auto", "shift", "resized"),
    "loop.amp": ("auto", "no", "bf16", "fp16"),
    "data.channels": (0, 1, 3),
}


def check(config: TrainConfig) -> None:
    """Refuse values out of range. Raises UserError."""
    values = _flat(asdict(config))
    for name, choices in _CHOICES.items():
        if values[name] not in choices:
            raise UserError(f"{name} is {values[name]!r}; expected one of {', '.join(map(str, choices))}")
    positive = ("optim.batch_size", "optim.lr", "optim.accumulate", "data.shuffle_window", "loop.log_every")
    for name in positive:
        if values[name] <= 0:
            raise UserError(f"{name} is {values[name]}; expected a number above 0")
    for name, value in values.items():
        if isinstance(value, int | float) and name != "data.label_seed" and value < 0:
            raise UserError(f"{name} is {value}; expected 0 or more")
    if (config.data.val_fraction or 0) >= 1 or config.loop.ema >= 1:
        raise UserError("data.val_fraction and loop.ema are shares; expected a number below 1")
    sources = len(config.data.shards or config.data.unlabeled)
    if config.data.weights and len(config.data.weights) != sources:
        raise UserError(
            f"{len(config.data.weights)} weights were given for {sources} directories; give one weight a directory"
        )
    if config.optim.batch_size % config.optim.accumulate:
        raise UserError(
            f"optim.batch_size {config.optim.batch_size} is no multiple of optim.accumulate {config.optim.accumulate}; "
            f"choose one that is"
        )


def _read_yaml(path: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise UserError(f"cannot read the configuration {path} ({error.strerror}); check the path") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML ({str(error).splitlines()[0]}); mend it") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} is no mapping of settings; compare it with a config.yaml that pptrain wrote")
    return values


def _merged(base: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in extra.items():
        both = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = _merged(merged[name], value) if both else value
    return merged


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        flat.update(_flat(inner, f"{prefix}.{name}" if prefix else str(name)))
    return flat
