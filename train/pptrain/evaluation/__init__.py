"""Judging a classifier, predicting with it, exporting it, and the metrics of a run."""

from pptrain.evaluation.commands import evaluate_model, export_model, predict_images
from pptrain.evaluation.inference import HeldImages, evaluate
from pptrain.evaluation.loss_averages import LossAverages
from pptrain.evaluation.metrics import MetricsWriter, check_trackers

__all__ = [
    "HeldImages",
    "LossAverages",
    "MetricsWriter",
    "check_trackers",
    "evaluate",
    "evaluate_model",
    "export_model",
    "predict_images",
]
