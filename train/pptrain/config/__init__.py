"""The settings of a training run: their types, how they are read and written, the rule of defaults, and stages from runs/."""

from pptrain.config.load import CONFIG_FILE, differences, flatten, load_config, parse, save_config, suggest
from pptrain.config.rule import RuleSettings, fine_tuning_rule, method_name, pre_training_rule
from pptrain.config.runs import MethodNeeds, default_out, default_stages
from pptrain.config.settings import Amount, OptimConfig, PositiveAmount, TrainConfig, ViewsConfig

__all__ = [
    "CONFIG_FILE",
    "Amount",
    "MethodNeeds",
    "OptimConfig",
    "PositiveAmount",
    "RuleSettings",
    "TrainConfig",
    "ViewsConfig",
    "default_out",
    "default_stages",
    "differences",
    "fine_tuning_rule",
    "flatten",
    "load_config",
    "method_name",
    "parse",
    "pre_training_rule",
    "save_config",
    "suggest",
]
