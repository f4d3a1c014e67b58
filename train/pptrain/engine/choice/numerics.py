"""The settings that decide how fast a step is and its last bits: what is open of them, and what a run directory holds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from pptrain.config import CONFIG_FILE, TrainConfig, load_config
from pptrain.models import choose_layout, has_bf16


@dataclass(frozen=True)
class Numerics:
    """One choice; the fields are those of `loop`."""

    amp: Literal["no", "bf16", "fp16"]
    channels_last: bool
    compile: bool = False
    graphs: bool = False

    def __str__(self) -> str:
        layout = "channels last" if self.channels_last else "contiguous"
        more = ["compiled"] * self.compile + ["CUDA graphs"] * self.graphs
        return ", ".join([{"no": "float32"}.get(self.amp, self.amp), layout, *more])

    def into(self, config: TrainConfig) -> TrainConfig:
        """`config` with this choice."""
        return replace(config, loop=replace(config.loop, **vars(self)))


def candidates(config: TrainConfig, net: nn.Module, device: torch.device) -> list[Numerics]:
    """What the settings leave open, compiled or with graphs only if they say so; the first is what a run takes that measures nothing.

    On CUDA bf16 needs no trial. A network that :func:`pptrain.models.choose_layout` keeps contiguous has one layout.
    """
    loop, able = config.loop, has_bf16(device)
    amps: list[Literal["no", "bf16", "fp16"]]
    if loop.amp != "auto":
        amps = [loop.amp]
    elif device.type == "cuda":
        amps = ["bf16" if able else "no"]
    else:
        amps = ["no", "bf16"] if able else ["no"]
    layouts = [True, False] if loop.channels_last is None else [loop.channels_last]
    if choose_layout(net, device, True) is torch.contiguous_format:
        layouts = layouts[:1]
    return [
        Numerics(amp, layout, bool(loop.compile), bool(loop.graphs)) for amp in amps for layout in layouts
    ]


def is_open(config: TrainConfig) -> bool:
    """Whether any of it is left to the program."""
    loop = config.loop
    return loop.amp == "auto" or None in (loop.channels_last, loop.compile, loop.graphs)


def with_stored(config: TrainConfig) -> TrainConfig:
    """`config` with what the run directory `config.out` holds of a choice that is open, so that a resumed run stays what it was.

    Raises:
        UserError: its config.yaml is damaged.
    """
    path = Path(config.out, CONFIG_FILE)
    if not is_open(config) or not path.is_file():
        return config
    stored, loop = load_config(str(path)).loop, config.loop
    return replace(
        config,
        loop=replace(
            loop,
            amp=stored.amp if loop.amp == "auto" else loop.amp,
            channels_last=stored.channels_last if loop.channels_last is None else loop.channels_last,
            compile=stored.compile if loop.compile is None else loop.compile,
            graphs=stored.graphs if loop.graphs is None else loop.graphs,
        ),
    )
