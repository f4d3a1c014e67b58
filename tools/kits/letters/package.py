"""The kit's directory: generator in diffusers' `save_pretrained` layout, classifier in ours, kit.json."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tools.kits.flow import PATCH, TIME_SCALE
from tools.kits.letters import classifier
from tools.kits.letters.fonts import CLASS_NAMES

STEPS = 4
LICENCE = "Apache-2.0"


def write_generator(folder: Path, net: Any) -> None:
    """unet/, scheduler/ and model_index.json; weights in half precision (loaders upcast), so that the kit stays small."""
    import diffusers  # optional: only for building the kit

    half = diffusers.UNet2DModel.from_config(net.config).half()
    half.load_state_dict(net.state_dict())
    half.save_pretrained(folder / "unet")
    scheduler: Any = diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=int(TIME_SCALE))
    scheduler.save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "DiffusionPipeline",
        "_diffusers_version": diffusers.__version__,
        "unet": ["diffusers", "UNet2DModel"],
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    }
    _write_json(folder / "model_index.json", index)


def read_generator(folder: Path) -> nn.Module:
    """The network in float32, ready to sample."""
    from diffusers import UNet2DModel  # optional: only for building the kit

    return UNet2DModel.from_pretrained(folder / "unet", torch_dtype=torch.float32).eval()


def write_kit(out: Path, generator: nn.Module, source_classifier: nn.Module) -> None:
    """Write the whole kit except its card; what was there is replaced."""
    for part in ("generator", "classifier"):
        shutil.rmtree(out / part, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    write_generator(out / "generator", generator)
    classifier.save(out / "classifier", source_classifier)
    kit = {
        "name": "letters",
        "family": "unet",
        "generator": "generator",
        "classifier": "classifier",
        "class_names": list(CLASS_NAMES),
        "licence": LICENCE,
        "commercial": True,
        "revision": "1",
        "sampling": {"solver": "flow_euler", "steps": STEPS, "guidance": 1.0, "patch": PATCH},
        "resolution": 32,
        "channels": 1,
        "image_format": "png",
        "description": "machine-rendered letters of free fonts, 42 classes, 32x32 grey",
    }
    _write_json(out / "kit.json", kit)


def size_of(folder: Path) -> int:
    """Bytes of all files below `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
