"""The settings of a training run: typed, read, overridden, found under runs/."""

from pptrain.config.adaptive import Choice, Situation, choose_fine_tuning, choose_pre_training, method_name
from pptrain.config.defaults import Wanted, default_out, default_stages
from pptrain.config.load import CONFIG_FILE, differences, flatten, load_config, save_config
from pptrain.config.parsing import parse, suggest
from pptrain.config.settings import OptimConfig, TrainConfig, ViewsConfig
from pptrain.config.values import Amount, PositiveAmount

__all__ = [
    "CONFIG_FILE",
    "Amount",
    "Choice",
    "OptimConfig",
    "PositiveAmount",
    "Situation",
    "TrainConfig",
    "ViewsConfig",
    "Wanted",
    "choose_fine_tuning",
    "choose_pre_training",
    "default_out",
    "default_stages",
    "differences",
    "flatten",
    "load_config",
    "method_name",
    "parse",
    "save_config",
    "suggest",
]
