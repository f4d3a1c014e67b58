"""State dicts as research code publishes them: every tensor is accounted for before one is used."""

from __future__ import annotations

from collections.abc import Mapping

import torch

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
    other = [name for name, shape in shapes.items() if name in state and tuple(state[name].shape) != shape]
    findings = {
        "missing": sorted(set(shapes) - set(state)),
        "unexpected": sorted(set(state) - set(shapes)),
        "of another shape": [
            f"{name} {tuple(state[name].shape)} instead of {shapes[name]}" for name in other
        ],
    }
    found = [f"{kind}: {_shorten(names)}" for kind, names in findings.items() if names]
    if found:
        raise UserError(
            f"the weights in {where} are not those of {what} ({'; '.join(found)}); give the file as published, or one that "
            "torch.save(net.state_dict(), FILE) writes"
        )


def _shorten(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
