"""Tiny random networks of SiT, REPA and VAR, and what their published code (MIT licence) computes with them, in float32 on a CPU.

`parity/NAME.json` has the configuration and the shape of every weight, `parity/NAME-io.safetensors` inputs and outputs.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from tiny_models import save_vae

FILES = Path(__file__).parent / "generators" / "parity"


def facts(name: str) -> dict[str, Any]:
    """The configuration of a network."""
    return json.loads((FILES / f"{name}.json").read_text())


def recorded(name: str) -> dict[str, torch.Tensor]:
    """Inputs and outputs of the published code."""
    return load_file(FILES / f"{name}-io.safetensors")


def draw(rule: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The weights of a network, drawn as `rule` says: one generator for all of them, in the order of their names."""
    random, state = np.random.default_rng(rule["seed"]), {}
    for name in sorted(rule["shapes"]):
        shape = rule["shapes"][name]
        values = random.standard_normal(shape).astype(np.float32)
        if len(shape) >= 2:
            values *= rule["gain"] / math.sqrt(math.prod(shape[1:]))
        else:
            values = 0.1 * values + (1 if name.endswith("weight") else 0)
        state[name] = torch.from_numpy(values.astype(np.float32))
    return state


def save_sit(folder: Path, name: str = "sit-tiny", wrap: bool = False, num_classes: int = 0) -> Path:
    """A directory with the weights of `sit-tiny` or `repa-tiny`, config.json and vae/; images 16x16.

    Args:
        wrap: store the weights as the `ema` of a training checkpoint.
        num_classes: other than the record's.
    """
    save_vae(folder / "vae")
    known = facts(name)
    (folder / "config.json").write_text(
        json.dumps({k: known[k] for k in ("num_heads", "input_size", "depth")})
    )
    if num_classes:
        known["weights"]["shapes"]["y_embedder.embedding_table.weight"][0] = num_classes + 1
    state = draw(known["weights"])
    other = {key: torch.zeros_like(tensor) for key, tensor in state.items()}
    torch.save({"model": other, "ema": state, "opt": {}, "steps": 3} if wrap else state, folder / "last.pt")
    return folder


def save_var(folder: Path, name: str = "var-tiny", num_classes: int = 0) -> Path:
    """A directory with the weights of `var-tiny` or `var-tiny-shared` and of their autoencoder; images 64x64.

    Args:
        num_classes: other than the record's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known = facts(name)
    (folder / "config.json").write_text(json.dumps({"patch_nums": known["patch_nums"]}))
    if num_classes:
        known["weights"]["shapes"]["class_emb.weight"][0] = num_classes + 1
    torch.save(draw(known["weights"]), folder / "var_d2.pth")
    torch.save(draw(known["decoder_weights"]), folder / "vae_ch32v64z8.pth")
    return folder
