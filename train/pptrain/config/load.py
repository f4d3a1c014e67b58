"""Reads settings from presets, YAML and the command line, checks them, and writes config.yaml; the rule for settings that are not given.

The rule computes lengths, batch sizes and weights from the number of images; it is the same for every network. Its constants were chosen
with seeds 100 to 102 (evaluations use seeds 0 to 9) on two tasks of the letters kit: digits (20 images of 10 classes) and a rendered
alphabet (176 images of 88 classes); docs/results.md has the table. With few labels, strong views are best, and the length should grow
more slowly than the number of images. Condition prediction gains accuracy on both tasks, and more in longer runs; a fifth of its weight
gained nothing. Pre-training takes ten epochs.
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from math import ceil, sqrt
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from ppcore.errors import UserError, first_line
from ppcore.places import local_path
from ppcore.storage import MismatchError, convert
from pptrain.config.settings import TrainConfig

# ---- fine-tuning on labelled images
_STEPS, _STEPS_AT = 400, 20  # steps for that many images; the steps grow with the square root of the images
_LEAST_STEPS, _MOST_STEPS, _ROUND_TO = 200, 4000, 50
_BATCH = 50
_LAMBDA_U = 0.5
_LABELLED_SOFT = 0.5
_PROTOTYPES = 1.0
# ---- pre-training on shards
_PRETRAINING_EPOCHS, _PRETRAINING_LEAST_STEPS, _PRETRAINING_BATCH = 10, 500, 64


@dataclass(frozen=True)
class RuleSettings:
    """What the rule chooses; `options` are options of the method `condition`."""

    steps: int
    batch_size: int
    labeled: Literal["strong"] = "strong"
    options: dict[str, float] = field(default_factory=dict)


def fine_tuning_rule(
    images: int, *, conditions: bool = False, soft_labels: bool = False, teacher: bool = False
) -> RuleSettings:
    """The rule for fine-tuning.

    Args:
        images: labelled images to train on.
        conditions: whether the unlabelled images have conditions that can be predicted.
        soft_labels: whether, in addition, every labelled image has a soft label among those conditions and the initial weights bring
            a head for their classes, as pseudo pre-training does.
        teacher: whether there is a source classifier to give the pseudo samples target classes.
    """
    steps = round(_STEPS * sqrt(images / _STEPS_AT) / _ROUND_TO) * _ROUND_TO
    options = {"lambda_u": _LAMBDA_U, "labelled_soft": _LABELLED_SOFT if soft_labels else 0.0}
    if teacher:
        options["prototypes"] = _PROTOTYPES
    return RuleSettings(
        min(max(steps, _LEAST_STEPS), _MOST_STEPS), _BATCH, options=options if conditions else {}
    )


def pre_training_rule(images: int, batch_size: int) -> RuleSettings:
    """The rule for pre-training on `images` in batches of `batch_size`; 0 leaves the batch size to the rule, too."""
    batch = batch_size or _PRETRAINING_BATCH
    return RuleSettings(max(ceil(_PRETRAINING_EPOCHS * images / batch), _PRETRAINING_LEAST_STEPS), batch)


def method_name(config: TrainConfig) -> str:
    """The method that the user named, else condition prediction if there are unlabelled images, else supervised training."""
    return config.method.name or ("condition" if config.data.unlabeled else "supervised")


T = TypeVar("T")

CONFIG_FILE = "config.yaml"

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {  # published later by the paper's authors, for images of 224 pixels
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

# Settings that change where and how fast a run is computed, but not its result.
_FREE = (
    "out",
    "data.workers",
    "loop.checkpoint_every",
    "loop.compile",
    "loop.device",
    "loop.graphs",
    "loop.log_every",
    "loop.tensorboard",
    "loop.threads",
    "loop.trackers",
)

# What a field expects, by the first word of pydantic's name for the error ...
_TYPES = {"int": "int", "float": "float", "finite": "float", "bool": "bool", "string": "str"}
# ... and by the whole name.
_EXPECTED = {
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "less_than": "a number below {lt:g}",
    "dataclass_type": "a mapping of settings",
    "dict_type": "a mapping of settings",
    "list_type": "a list",
}


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
        _set(values, name, value)
    config = parse(TrainConfig, values)
    _check_together(config)
    return config


def save_config(config: TrainConfig, folder: Path) -> None:
    """Write the resolved configuration as `config.yaml`, which `pptrain run --config` takes."""
    temporary = folder / f".tmp-{CONFIG_FILE}"
    temporary.write_text(yaml.safe_dump(asdict(config), sort_keys=False), "utf-8")
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
    return {name: value for name, value in flatten(asdict(config)).items() if name not in _FREE}


def _check_together(config: TrainConfig) -> None:
    """Raise UserError for values that contradict each other."""
    sources = len(config.data.shards or config.data.unlabeled)
    if config.data.weights and len(config.data.weights) != sources:
        raise UserError(
            f"{len(config.data.weights)} weights were given for {sources} directories; give one weight per directory"
        )
    if config.data.weights and not any(config.data.weights):
        raise UserError("data.weights are all 0; give at least one directory a weight above 0")
    if config.optim.batch_size % config.optim.accumulate:
        raise UserError(
            f"optim.batch_size {config.optim.batch_size} is not a multiple of optim.accumulate {config.optim.accumulate}; "
            f"change one of them"
        )


def _read_yaml(path: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(Path(local_path(path)).read_text("utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the configuration {path} ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8 ({error}); save it as UTF-8") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML ({first_line(error)}); correct it") from error
    if not isinstance(values, dict):
        raise UserError(
            f"{path} is not a mapping of settings; compare it with a config.yaml that pptrain wrote"
        )
    return values


def _merged(base: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in extra.items():
        both = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = _merged(merged[name], value) if both else value
    return merged


def _set(values: dict[str, Any], name: str, value: Any) -> None:
    """Set `values["a"]["b"] = value` for the name "a.b"."""
    *parents, last = name.split(".")
    inner = values
    for parent in parents:
        child = inner.get(parent)
        inner[parent] = dict(child) if isinstance(child, dict) else {}
        inner = inner[parent]
    inner[last] = value


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings -> {"optim.lr": 0.01}."""
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        flat.update(flatten(inner, f"{prefix}.{name}" if prefix else str(name)))
    return flat


def parse(kind: type[T], values: dict[str, Any], where: str = "") -> T:
    """Build the dataclass `kind` from a nested mapping.

    Args:
        where: dotted name of the mapping, for error messages.

    Raises:
        UserError: unknown key, or a value that does not fit its field.
    """
    try:
        return convert(kind, values)
    except MismatchError as error:
        raise UserError(_explain(kind, error, where)) from error


def suggest(name: str, known: Sequence[str]) -> str:
    """`did you mean ...` if a known name is similar to `name`, else all known names."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(known)}"


def _explain(kind: type, error: MismatchError, where: str) -> str:
    path = ".".join(str(part) for part in (where, *error.place) if part != "")
    if error.problem in ("unexpected_keyword_argument", "invalid_key"):
        for part in error.place[:-1]:
            kind = typing.get_type_hints(kind)[str(part)]
        return f"unknown setting {path!r}; {suggest(str(error.place[-1]), [f.name for f in fields(kind)])}"
    return f"{path} is {error.value!r}; expected {_expected(error)}"


def _expected(error: MismatchError) -> str:
    if error.problem in _EXPECTED:
        return _EXPECTED[error.problem].format(**error.bounds)
    if error.problem == "literal_error":  # pydantic says: 'adamw' or 'sgd'
        return f"one of {error.bounds['expected'].replace(chr(39), '').replace(' or ', ', ')}"
    return f"a value of type {_TYPES.get(error.problem.partition('_')[0], error.problem)}"
