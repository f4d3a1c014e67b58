"""The settings of a training run: their types, how they are read and written, and the rule of defaults."""

from pptrain.config.load import (
    CONFIG_FILE,
    RuleSettings,
    differences,
    fine_tuning_rule,
    flatten,
    identity,
    load_config,
    method_name,
    parse,
    pre_training_rule,
    save_config,
    suggest,
)
from pptrain.config.settings import Amount, OptimConfig, PositiveAmount, TrainConfig, ViewsConfig
