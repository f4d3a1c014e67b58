"""Image classifiers of any architecture: built, wrapped with their preprocessing, written and loaded."""

from ppcore.classifiers.load import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Classifier,
    ClassifierSpec,
    build,
    find_head,
    import_callable,
    load_classifier,
    load_weights,
    read_weights,
    save_classifier,
    to_grey,
)
from ppcore.classifiers.networks import OWN

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "OWN",
    "Classifier",
    "ClassifierSpec",
    "build",
    "find_head",
    "import_callable",
    "load_classifier",
    "load_weights",
    "read_weights",
    "save_classifier",
    "to_grey",
]
