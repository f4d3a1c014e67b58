"""The settings of a training run: typed, read, overridden, found under runs/."""

from pptrain.config.discover import default_out, default_stages
from pptrain.config.load import CONFIG_FILE, differences, load_config, save_config
from pptrain.config.settings import DataConfig, OptimConfig, TrainConfig, ViewsConfig
from pptrain.config.typed import from_dict, suggest

__all__ = [
    "CONFIG_FILE",
    "DataConfig",
    "OptimConfig",
    "TrainConfig",
    "ViewsConfig",
    "default_out",
    "default_stages",
    "differences",
    "from_dict",
    "load_config",
    "save_config",
    "suggest",
]
