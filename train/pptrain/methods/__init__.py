"""Every training method by name."""

from __future__ import annotations

from typing import Any

from ppcore.errors import UserError
from pptrain.config import from_dict, suggest
from pptrain.methods.base import Batch, Context, Method, SemiSupervised
from pptrain.methods.consistency import FeatureConsistency, MeanTeacher, PiModel, Vat
from pptrain.methods.distill import LogitMatching, SoftTarget
from pptrain.methods.entropy import EntMin, PseudoLabel, SoftPseudoLabel
from pptrain.methods.supervised import Supervised
from pptrain.methods.thresholds import FixMatch, FlexMatch, FreeMatch, SoftMatch
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
    "fixmatch": FixMatch,
    "flexmatch": FlexMatch,
    "freematch": FreeMatch,
    "softmatch": SoftMatch,
    "feature-consistency": FeatureConsistency,
}

__all__ = ["METHODS", "Batch", "Context", "Method", "SemiSupervised", "make_method"]


def make_method(name: str, options: dict[str, Any]) -> Method:
    """The method `name` with `options` over its defaults.

    Raises:
        UserError: unknown method or option, or a value out of range.
    """
    if name not in METHODS:
        raise UserError(f"unknown method {name!r}; {suggest(name, list(METHODS))}")
    method = from_dict(METHODS[name], options, f"method.options of {name}")
    for option, value in vars(method).items():
        if isinstance(value, int | float) and value < 0:
            raise UserError(f"option {option} of {name} is {value}; expected 0 or more")
    if getattr(method, "temperature", 1.0) <= 0:
        raise UserError(f"option temperature of {name} is 0; expected more than 0")
    if getattr(method, "tsa", "none") not in ("none", "linear", "log", "exp"):
        raise UserError(f"option tsa of {name} is unknown; expected none, linear, log or exp")
    return method
