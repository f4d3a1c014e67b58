"""The settings of a training run: typed, read, overridden, found under runs/."""

from pptrain.config.defaults import default_out, default_stages
from pptrain.config.load import CONFIG_FILE, differences, flatten, load_config, save_config
from pptrain.config.parsing import parse, suggest
from pptrain.config.settings import OptimConfig, TrainConfig, ViewsConfig
from pptrain.config.values import Amount, PositiveAmount

__all__ = [
    "CONFIG_FILE",
    "Amount",
    "OptimConfig",
    "PositiveAmount",
    "TrainConfig",
    "ViewsConfig",
    "default_out",
    "default_stages",
    "differences",
    "flatten",
    "load_config",
    "parse",
    "save_config",
    "suggest",
]
