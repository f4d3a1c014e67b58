"""Whether weights may be used: refusing licences that someone must not touch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from ppcore.errors import UserError
from ppcore.kits import KITS, get_kit

COMMERCIAL = "commercial"
"""The word that allows every licence which permits commercial use."""

_PERMISSIVE = (
    "mit",
    "apache-2.0",
    "bsd-2-clause",
    "bsd-3-clause",
    "cc0-1.0",
    "cc-by-4.0",
    "cc-by-sa-4.0",
    "unlicense",
    "0bsd",
)


def allows_commercial_use(licence: str) -> bool:
    """Whether this SPDX identifier is known to permit commercial use; unknown ones are not."""
    return licence.lower() in _PERMISSIVE


def permits(allowed: Sequence[str], licence: str, commercial: bool) -> bool:
    """Whether a licence is among `allowed`: SPDX identifiers in any case, or the word `commercial`; empty allows all."""
    wanted = [word.lower() for word in allowed]
    return not wanted or licence.lower() in wanted or (COMMERCIAL in wanted and commercial)


_SHAREABLE = (
    *_PERMISSIVE,
    "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0",
    "openrail",
    "openrail++",
    "creativeml-openrail-m",
    "bigscience-openrail-m",
)
_KEPT = re.compile(
    r"(^|-)nd(-|$)|proprietary|all rights reserved|research.only|no.redistribution", re.IGNORECASE
)

Redistribution = Literal["allowed", "forbidden", "unknown"]


def redistribution(licence: str) -> Redistribution:
    """Whether what was made with weights under this licence may be handed on, under terms no wider than the licence's own."""
    if _KEPT.search(licence):
        return "forbidden"
    return "allowed" if licence.lower() in _SHAREABLE else "unknown"


def require_licence(source: str, licence: str, allowed: Sequence[str]) -> None:
    """Refuse a source whose weights' licence is not among `allowed` (see :func:`permits`).

    Args:
        source: what the user typed; a named kit knows for itself whether commercial use is allowed.
        licence: of the loaded generator.

    Raises:
        UserError: the licence is not allowed.
    """
    commercial = get_kit(source).commercial if source in KITS else allows_commercial_use(licence)
    if not permits(allowed, licence, commercial):
        raise UserError(
            f"the weights of {source} are under the licence {licence!r} and only {', '.join(allowed)} is allowed; choose another "
            "source from ppgen sources, or allow this licence with --allow-licence"
        )
