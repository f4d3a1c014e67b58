"""Evaluation, predictions and export of a trained classifier, and the log of a training run."""

from pptrain.evaluation.export import Exported, export_model
from pptrain.evaluation.figures import Evaluation, HeldImages, evaluate, evaluate_model, predict_logits
from pptrain.evaluation.predictions import (
    Prediction,
    check_output,
    predict_images,
    write_csv,
    write_predictions,
    write_test_predictions,
)
from pptrain.evaluation.training_log import LossAverages, MetricsWriter, check_trackers
