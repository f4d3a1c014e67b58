"""What a directory's plan may make a later command load. A plan.json may come from anybody, with a fingerprint that fits.

By itself it may name kits, hub repositories at a commit, and classifiers that torchvision or timm publish. Places on this machine it may
name where it was written here, as its fingerprint tells, or where somebody types them; code only where somebody types it and says so.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from ppcore.errors import UserError
from ppcore.kits import KITS
from ppcore.storage import decode
from ppcore.targets import may_be_named
from ppcore.trust import is_remembered, remember, target_words
from ppgen.sources.hub import is_commit, is_repository
from ppgen.sources.spec import SourceSpec, is_code

NONE = "none"
"""Typed in the place of a classifier: do without."""

_Text = Annotated[str, Field(max_length=4096)]
_PUBLISHED = re.compile(r"(timm/)?\w[\w.-]*")


@dataclass(frozen=True)
class Load:
    """plan.json's `load`: what was typed when the directory was made (see :class:`ppgen.sources.SourceSpec`), and its target."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    source: _Text = ""
    dtype: _Text | None = None
    sampling: dict[_Text, Any] = field(default_factory=dict)
    revision: _Text | None = None
    trust_remote_code: bool = False
    classifier: _Text | None = None
    class_map: Annotated[dict[_Text, _Text], Field(max_length=100_000)] | None = None
    target: _Text | None = None


@dataclass(frozen=True)
class Typed:
    """What stands on the command line beside the directory's name: where the source and the classifier are, `--trust-code`."""

    source: str | None = None
    classifier: str | None = None
    trust_code: bool = False


def remember_plan(fingerprint: str, load: dict[str, Any]) -> None:
    """Note that somebody typed what this plan's `load` says, on this machine."""
    remember(("plan", fingerprint))
    remember(target_words(fingerprint, str(load.get("target"))))


def is_own(fingerprint: str) -> bool:
    """Whether a plan was made on this machine; its `load` is part of what the fingerprint stands for."""
    return is_remembered(("plan", fingerprint))


def read_load(load: dict[str, Any]) -> Load:
    """Raises UserError where a plan's `load` is something else."""
    try:
        return decode(Load, json.dumps(load))
    except ValueError as error:
        raise UserError(
            f"plan.json does not say how its source was loaded ({error}); restore it from where it came from"
        ) from error


def planned_spec(
    load: dict[str, Any], typed: Typed, device: str = "auto", *, own: bool = False
) -> SourceSpec:
    """How to load the source and the classifier that a plan was made with, on this machine's device.

    Nothing is looked up, imported or opened.

    Args:
        load: the plan's.
        own: whether it was made here (see :func:`is_own`).

    Raises:
        UserError: the plan names code, or a place on this machine, that has to be typed; or code was typed that the plan does not name.
    """
    told = read_load(load)
    named = _named_source(told, typed, own)
    classifier = _named_classifier(told, typed, own)
    return SourceSpec(
        named,
        device=device,
        dtype=told.dtype,
        sampling=told.sampling,
        revision=told.revision,
        trust_remote_code=told.trust_remote_code,
        classifier=classifier,
        class_map=told.class_map,
        trust_code=typed.trust_code,
        pickles=own or typed.source is not None or named in KITS,
    )


def planned_classifier(
    load: dict[str, Any], typed: Typed, device: str = "auto", *, own: bool = False
) -> SourceSpec:
    """The same where the classifier alone is loaded, which a source that is a kit brings along; other sources are left alone.

    Raises:
        UserError: see :func:`planned_spec`.
    """
    told = read_load(load)
    classifier = _named_classifier(told, typed, own)
    source = typed.source or told.source
    if classifier is None and not is_code(source):
        source = _named_source(told, typed, own)
    elif typed.source is None and source not in KITS:
        source = NONE
    return SourceSpec(
        source,
        device=device,
        classifier=classifier,
        class_map=told.class_map,
        trust_code=typed.trust_code,
    )


def planned_target(load: dict[str, Any], name: str, typed: str | None, *, own: bool = False) -> str | None:
    """The target that conditioned a plan's samples; None where `typed`, a reference, stands in its place.

    Args:
        name: what the plan calls it.
        typed: see :class:`Typed`.

    Raises:
        UserError: it is a place on this machine that has to be typed.
    """
    told = read_load(load).target or name
    if own or may_be_named(told) or typed == told:
        return told
    if typed is not None:
        return None
    raise UserError(
        f"plan.json names the target {told!r}, a place outside the directory; give it, or another one, with --reference, or do without: "
        f"--reference {NONE}"
    )


def _named_source(told: Load, typed: Typed, own: bool) -> str:
    if not told.source and typed.source is None:
        raise UserError("plan.json does not say how its source was loaded; name the source with --source")
    if typed.source is not None and is_code(typed.source) and typed.source != told.source:
        raise UserError(
            f"--source {typed.source} is code and plan.json names {told.source!r}; give the source that the directory was made with"
        )
    source = typed.source or told.source
    if is_code(source) or told.trust_remote_code:
        if typed.source is None or not typed.trust_code:
            what = "code as its source" if is_code(source) else "a source with code of its own"
            raise UserError(
                f"plan.json names {what} ({source!r}), which runs only if you ask for it; read that code, then give --source "
                f"{source!r} --trust-code"
            )
    elif typed.source is None and not own and not _source_may_be_named(told):
        raise UserError(
            f"plan.json names the source {source!r}, which is no kit and no hub repository at a commit; give --source with that source, "
            "or with where it is now"
        )
    return source


def _source_may_be_named(told: Load) -> bool:
    pinned = is_repository(told.source) and is_commit(told.revision or "") and not Path(told.source).exists()
    return told.source in KITS or pinned


def _named_classifier(told: Load, typed: Typed, own: bool) -> str | None:
    if typed.classifier is not None:
        if ":" in typed.classifier.partition("@")[0] and not typed.trust_code:
            raise UserError(
                f"--classifier {typed.classifier} is code, which runs only if you ask for it; add --trust-code"
            )
        return typed.classifier
    name = told.classifier
    if name is None or _classifier_may_be_named(name):
        return name
    if ":" in name:
        raise UserError(
            f"plan.json names code as its classifier ({name!r}), which runs only if you ask for it; read that code, then give "
            f"--classifier {name!r} --trust-code"
        )
    if not own:
        raise UserError(
            f"plan.json names the classifier {name!r}, a place outside the directory; give --classifier with that classifier, or with "
            "where it is now"
        )
    return name


def _classifier_may_be_named(name: str) -> bool:
    return (name in KITS or _PUBLISHED.fullmatch(name) is not None) and not Path(name).exists()
