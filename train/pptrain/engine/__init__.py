"""Training runs from configuration to result."""

from pptrain.engine.result import Result, read_result
from pptrain.engine.run import train
from pptrain.engine.stages import run_stages, train_on_ray
from pptrain.engine.timing import seconds_per_image
