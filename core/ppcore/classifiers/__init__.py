"""Image classifiers: build an architecture, add its preprocessing, save and load it.

A model directory holds `config.json` (a :class:`ClassifierSpec`) and `model.safetensors`. pptrain writes it, ppgen and pptrain read it. It
contains no code.
"""

from ppcore.classifiers.architectures import build, import_callable, usual_input
from ppcore.classifiers.heads import find_heads, head_names, linear_map, require_head, run_with_features
from ppcore.classifiers.load import (
    Classifier,
    ClassifierSpec,
    imagenet_class_names,
    load_classifier,
    published_class_names,
    save_classifier,
    soft_labels,
    to_grey,
)
from ppcore.classifiers.weights import load_weights, read_weights
