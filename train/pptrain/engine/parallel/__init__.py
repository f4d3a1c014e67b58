"""What several processes do inside a step: gradients averaged while the backward pass is still running."""

from pptrain.engine.parallel.gradients import Gradients, Mean, cut

__all__ = ["Gradients", "Mean", "cut"]
