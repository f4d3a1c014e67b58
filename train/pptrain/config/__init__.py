"""The settings of a training run: their types, how they are read and written, and the rule of defaults."""

from pptrain.config.load import (
    CONFIG_FILE,
    differences,
    flatten,
    identity,
    load_config,
    parse,
    save_config,
    suggest,
)
from pptrain.config.rule import RuleSettings, fine_tuning_rule, method_name, pre_training_rule
from pptrain.config.settings import Amount, OptimConfig, PositiveAmount, TrainConfig, ViewsConfig
