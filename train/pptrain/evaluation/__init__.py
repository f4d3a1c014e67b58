"""Judging a classifier, predicting with it, exporting it, and the metrics of a run."""

from pptrain.evaluation.accuracy import Report, evaluate, load_images, predict_logits, summarize
from pptrain.evaluation.metrics import Metrics, check_trackers
from pptrain.evaluation.predict import find_images, write_predictions

__all__ = [
    "Metrics",
    "Report",
    "check_trackers",
    "evaluate",
    "find_images",
    "load_images",
    "predict_logits",
    "summarize",
    "write_predictions",
]
