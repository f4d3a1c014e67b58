"""Weights as they are published: every tensor is accounted for before one is used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch

from ppcore.console import shortened
from ppcore.errors import UserError

State = Mapping[str, torch.Tensor]
_SHOWN = 5  # names in a message


def require_shapes(state: State, shapes: Mapping[str, tuple[int, ...]], where: str, what: str) -> None:
    """Check that the names and shapes of a state dict are exactly the expected ones.

    Args:
        where: names the file in the message.
        what: the expected network, `a SiT`.

    Raises:
        UserError: the message names what is missing, unexpected or of another shape.
    """
    other = [(name, state[name].shape, shape) for name, shape in shapes.items() if name in state]
    require_complete(
        set(shapes) - set(state),
        set(state) - set(shapes),
        [(name, found, shape) for name, found, shape in other if tuple(found) != shape],
        where,
        what,
    )


def require_complete(
    missing: Iterable[str],
    unexpected: Iterable[str],
    other_shape: Iterable[tuple[str, Sequence[int], Sequence[int]]],
    where: str,
    what: str,
) -> None:
    """Raise UserError, which names them, if there are any such weights; see :func:`require_shapes`.

    Args:
        other_shape: (name, shape found, shape expected).
    """
    findings = {
        "missing": sorted(missing),
        "unexpected": sorted(unexpected),
        "of another shape": sorted(
            f"{name} {tuple(found)} instead of {tuple(expected)}" for name, found, expected in other_shape
        ),
    }
    found = [f"{kind}: {shortened(names, _SHOWN)}" for kind, names in findings.items() if names]
    if found:
        raise UserError(
            f"the weights in {where} are not those of {what} ({'; '.join(found)}); use them as they were published"
        )
