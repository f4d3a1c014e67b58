"""One training run from configuration to result."""

from pptrain.engine.cluster import train_on_ray
from pptrain.engine.ranks import Ranks
from pptrain.engine.run import Result, train

__all__ = ["Ranks", "Result", "train", "train_on_ray"]
