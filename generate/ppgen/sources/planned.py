"""Which source, classifier and target a command may open because a directory's plan.json names them.

A plan.json may come from anybody. By itself it may name kits, hub repositories at a commit, classifiers that torchvision or timm publish,
and targets known by name. Any other place must be typed on the command line. Code runs only if its name was typed, or with --trust-code.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from ppcore.console import printable_name
from ppcore.errors import UserError
from ppcore.kits import KITS, is_commit, is_published, is_repository
from ppcore.storage import decode
from ppcore.targets import may_be_named
from ppgen.options import PlannedOptions
from ppgen.sources.protocol import SourceSpec, is_code

NONE = "none"
"""Typed in the place of a classifier or a reference: do without it."""

_Text = Annotated[str, Field(max_length=4096)]


@dataclass(frozen=True)
class Load:
    """The field `load` of plan.json: how the source was loaded (see :class:`ppgen.sources.SourceSpec`), and the target."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    source: _Text = ""
    dtype: _Text | None = None
    sampling: dict[_Text, Any] = field(default_factory=dict)
    revision: _Text | None = None
    trust_remote_code: bool = False
    classifier: _Text | None = None
    class_map: Annotated[dict[_Text, _Text], Field(max_length=100_000)] | None = None
    target: _Text | None = None


def planned_spec(
    load: dict[str, Any], typed: PlannedOptions, device: str = "auto", *, classifier_only: bool = False
) -> SourceSpec:
    """How to load the source and the classifier that a plan was made with. Nothing is looked up, imported or opened.

    Args:
        load: the field `load` of the plan.
        typed: replaces what the plan names.
        classifier_only: the generator is not needed; the source is checked only if it is the kit that brings the classifier.

    Raises:
        UserError: `load` is damaged, or names code or a place that must be typed.
    """
    named = _read_load(load)
    classifier = typed.classifier or named.classifier
    if classifier is not None:
        _check_classifier(classifier, typed)
    source = typed.source or named.source
    if not classifier_only or (classifier is None and not is_code(source)):
        _check_source(named, typed)
    elif typed.source is None and source not in KITS:
        source = NONE
    return SourceSpec(
        source,
        device=device,
        dtype=named.dtype,
        sampling=named.sampling,
        revision=named.revision,
        trust_remote_code=named.trust_remote_code,
        classifier=classifier,
        class_map=named.class_map,
        trust_code=typed.trust_code,
        pickles=typed.source is not None or source in KITS,
    )


def planned_target(load: dict[str, Any], name: str, typed: str | None) -> str | None:
    """The target that conditioned the samples of a plan; None if another reference was typed.

    Args:
        load: the field `load` of the plan.
        name: the target's name in the plan.
        typed: the option `--reference`.

    Raises:
        UserError: the plan names a place that must be typed.
    """
    target = _read_load(load).target or name
    if may_be_named(target):
        return target
    if typed is not None and printable_name(typed) == target:
        return typed
    if typed is not None:
        return None
    raise UserError(
        f"plan.json names the target {target!r}, a place outside the directory; give --reference with that target or another one, or "
        f"--reference {NONE} to do without"
    )


def _read_load(load: dict[str, Any]) -> Load:
    try:
        return decode(Load, json.dumps(load))
    except ValueError as error:
        raise UserError(
            f"plan.json does not say how its source was loaded ({error}); restore it from where it came from"
        ) from error


def _check_source(named: Load, typed: PlannedOptions) -> None:
    source = typed.source or named.source
    if not source:
        raise UserError("plan.json does not say how its source was loaded; name the source with --source")
    if named.trust_remote_code or (typed.source is None and is_code(source)):
        if not typed.trust_code:
            raise UserError(
                f"plan.json names a source that runs code ({source!r}); read that code, then give --source {source!r} --trust-code"
            )
    elif typed.source is None and source not in KITS:
        pinned = is_repository(source) and is_commit(named.revision) and not Path(source).exists()
        if not pinned:
            raise UserError(
                f"plan.json names the source {source!r}, which is no kit and no hub repository at a commit; give --source with that "
                "source, or with where it is now"
            )


def _check_classifier(name: str, typed: PlannedOptions) -> None:
    published = (name in KITS or is_published(name)) and not Path(name).exists()
    if typed.classifier is not None or published:
        return
    if ":" not in name:
        raise UserError(
            f"plan.json names the classifier {name!r}, a place outside the directory; give --classifier with that classifier, or with "
            "where it is now"
        )
    if not typed.trust_code:
        raise UserError(
            f"plan.json names code as its classifier ({name!r}); read that code, then give --classifier {name!r} --trust-code"
        )
