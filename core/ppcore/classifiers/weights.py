"""The files of a model directory, and state dicts of strangers: read without running code, written whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import nn

from ppcore.classifiers.spec import ClassifierSpec
from ppcore.errors import UserError
from ppcore.storage import Store

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def save_classifier(folder: str | Path, net: nn.Module, spec: ClassifierSpec) -> None:
    """Write config.json and model.safetensors, each atomically, weights first."""
    store = Store(folder)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    store.write_atomic(WEIGHTS, save(weights))
    store.write_atomic(CONFIG, (json.dumps(asdict(spec), indent=1) + "\n").encode())


def read_weights(file: str | Path) -> dict[str, torch.Tensor]:
    """A state dict from .safetensors, or from a pickle with `weights_only` (no code runs).

    Raises:
        UserError: missing, unreadable, or not a state dict.
    """
    path = Path(file)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"no weights at {path}; check the path") from error
    except Exception as error:  # pickle and safetensors raise many types for a damaged file
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path} cannot be read as weights ({reason}); expected safetensors or a plain state dict"
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise UserError(f"{path} holds no state dict; expected a mapping of names to tensors")
    return {str(name).removeprefix("module."): tensor for name, tensor in state.items()}


def load_weights(net: nn.Module, state: Mapping[str, torch.Tensor], where: str) -> None:
    """Strict load. Raises UserError naming what is missing, unexpected or of another shape."""
    own = net.state_dict()
    missing = sorted(set(own) - set(state))
    unexpected = sorted(set(state) - set(own))
    shapes = [name for name in own if name in state and own[name].shape != state[name].shape]
    if missing or unexpected or shapes:
        parts = [("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)]
        misfits = "; ".join(f"{len(names)} keys {what} such as {names[0]}" for what, names in parts if names)
        raise UserError(
            f"the weights in {where} do not fit {type(net).__name__}: {misfits}; use the architecture they were trained with"
        )
    net.load_state_dict({name: state[name] for name in own})
