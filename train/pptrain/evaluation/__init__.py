"""Judging a classifier, predicting with it, exporting it, and the metrics of a run."""

from pptrain.evaluation.commands import Exported, evaluate_model, export_model, predict_images
from pptrain.evaluation.inference import HeldImages, evaluate
from pptrain.evaluation.judged import write_judged
from pptrain.evaluation.loss_averages import LossAverages
from pptrain.evaluation.metrics import MetricsWriter, check_trackers

__all__ = [
    "Exported",
    "HeldImages",
    "LossAverages",
    "MetricsWriter",
    "check_trackers",
    "evaluate",
    "evaluate_model",
    "export_model",
    "predict_images",
    "write_judged",
]
