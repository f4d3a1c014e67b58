"""Every training method by name: one class per method; the losses are pure functions."""

from __future__ import annotations

from typing import Any

from ppcore.errors import UserError
from pptrain.config import parse, suggest
from pptrain.methods.base import Batch, Context, Method, SemiSupervised, SourceSide, UnlabeledView
from pptrain.methods.condition import Condition
from pptrain.methods.consistency import FeatureConsistency, MeanTeacher, PiModel, Vat
from pptrain.methods.pseudo_labels import (
    EntMin,
    FixMatch,
    FlexMatch,
    FreeMatch,
    PseudoLabel,
    SoftMatch,
    SoftPseudoLabel,
)
from pptrain.methods.supervised import LogitMatching, SoftTarget, Supervised
from pptrain.methods.uda import Uda

METHODS: dict[str, type[Method]] = {
    "supervised": Supervised,
    "soft-target": SoftTarget,
    "logit-matching": LogitMatching,
    "entmin": EntMin,
    "pseudo-label": PseudoLabel,
    "soft-pseudo-label": SoftPseudoLabel,
    "pi-model": PiModel,
    "mean-teacher": MeanTeacher,
    "vat": Vat,
    "uda": Uda,
    "condition": Condition,
    "fixmatch": FixMatch,
    "flexmatch": FlexMatch,
    "freematch": FreeMatch,
    "softmatch": SoftMatch,
    "feature-consistency": FeatureConsistency,
}


def make_method(name: str, options: dict[str, Any]) -> Method:
    """The method `name` with `options` over its defaults.

    Raises:
        UserError: unknown method or option, or a value out of range.
    """
    if name not in METHODS:
        raise UserError(f"unknown method {name!r}; {suggest(name, list(METHODS))}")
    return parse(METHODS[name], options, "method.options")
