"""What a user of an exported file must know, as JSON beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ppcore.classifiers import Classifier
from ppcore.storage import Store
from pptrain.evaluation.exporting import INPUT, OUTPUT


def describe_file(classifier: Classifier, file: Path) -> dict[str, Any]:
    """Names, types and shapes of input and output, how an image is prepared, and the classes."""
    spec = classifier.spec
    return {
        "file": file.name,
        "input": {
            "name": INPUT,
            "type": "uint8",
            "shape": ["batch", spec.channels, spec.resolution, spec.resolution],
        },
        "output": {"name": OUTPUT, "type": "float32", "shape": ["batch", spec.num_classes]},
        "preparation": {
            "colour": "grey (ITU-R 601 luma)" if spec.channels == 1 else "RGB",
            "shorter_side": spec.resize or spec.resolution,
            "resample": "bicubic, antialiased",
            "centre_crop": spec.resolution,
            "normalisation": "built in",
        },
        "class_names": list(spec.class_names),
    }


def write_description(classifier: Classifier, file: Path) -> Path:
    """Write :func:`describe_file` as `<file>.json`; returns its path."""
    text = json.dumps(describe_file(classifier, file), indent=1) + "\n"
    Store(file.parent).write_atomic(f"{file.name}.json", text.encode())
    return file.with_name(f"{file.name}.json")
