"""Image classifiers of any architecture: built, wrapped with their preprocessing, written and loaded.

A model directory holds `config.json` (a :class:`ClassifierSpec`) and `model.safetensors`. pptrain writes it, ppgen and
pptrain read it; nothing in it is executable.
"""

from ppcore.classifiers.architectures import build, import_callable, usual_input
from ppcore.classifiers.load import load_classifier
from ppcore.classifiers.published import imagenet_class_names, published_class_names
from ppcore.classifiers.soft import soft_labels
from ppcore.classifiers.spec import ClassifierSpec
from ppcore.classifiers.weights import load_weights, read_weights, save_classifier
from ppcore.classifiers.wrap import Classifier, find_head, to_grey

__all__ = [
    "Classifier",
    "ClassifierSpec",
    "build",
    "find_head",
    "imagenet_class_names",
    "import_callable",
    "load_classifier",
    "load_weights",
    "published_class_names",
    "read_weights",
    "save_classifier",
    "soft_labels",
    "to_grey",
    "usual_input",
]
