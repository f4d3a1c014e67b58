"""Predictions: of image files without labels, and of the test images of a run."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from ppcore.classifiers import Classifier, load_classifier
from ppcore.errors import UserError
from ppcore.places import local_path
from ppcore.storage import Store
from ppcore.targets import ImageSet, open_images
from ppcore.trust import Trust
from pptrain.evaluation.figures import Evaluation, image_batches, predict_logits
from pptrain.models import choose_device

_TEST_PREDICTIONS = "predictions.parquet"


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of one image file, the likeliest first, and their probabilities."""

    file: str
    classes: list[str]
    probabilities: list[float]


def predict_images(
    model: str, images: Sequence[str], *, top: int = 5, device: str = "auto", trust_code: bool = False
) -> Iterator[Prediction]:
    """The `top` likeliest classes of every image; images are read batch by batch.

    Args:
        model: run directory, model directory, kit or classifier.
        images: files, folders, patterns, tables, archives, or `-` (see :func:`ppcore.targets.open_images`).
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        trust_code: run the code (module:callable) that the model directory names.

    Raises:
        UserError: no such model, image or device, or a damaged image.
    """
    classifier, opened = load_classifier(model, trust=Trust(trust_code)), open_images(images)
    return predict(classifier.to(choose_device(device)), opened, top=top)


def predict(classifier: Classifier, images: ImageSet, *, top: int = 5) -> Iterator[Prediction]:
    """The `top` likeliest classes of every image, in order; the labels are not used.

    Raises:
        UserError: a damaged image.
    """
    spec, names = classifier.spec, iter(images.ids)
    for logits in predict_logits(classifier.whole(), image_batches(images, spec)):
        best, label = logits.softmax(1).topk(min(top, spec.num_classes))
        for shares, classes in zip(best.tolist(), label.tolist(), strict=True):
            yield Prediction(next(names), [spec.class_names[c] for c in classes], shares)


def write_csv(predictions: Iterator[Prediction], out: TextIO) -> int:
    """Write predictions as CSV: file, then class and probability of each class. Returns the number of images."""
    count, writer = 0, csv.writer(out)
    for row in _rows(predictions):
        if not count:
            writer.writerow(row)
        writer.writerow(f"{cell:.4f}" if isinstance(cell, float) else cell for cell in row.values())
        count += 1
    return count


def write_predictions(predictions: Iterator[Prediction], out: str) -> int:
    """Write the columns of :func:`write_csv` to a .csv, .jsonl (an object a line) or .parquet file. Returns the number of images.

    Raises:
        UserError: a name with another ending.
    """
    file = check_output(out)
    if file.suffix == ".csv":
        text = io.StringIO(newline="")
        count = write_csv(predictions, text)
        data = text.getvalue().encode()
    else:
        rows = list(_rows(predictions))
        count, data = len(rows), _parquet(rows) if file.suffix == ".parquet" else _json_lines(rows)
    Store(file.parent).write_atomic(file.name, data)
    return count


def check_output(out: str) -> Path:
    """The path of a file of predictions. Raises UserError if it does not end in .csv, .jsonl or .parquet."""
    file = Path(local_path(out))
    if file.suffix not in (".csv", ".jsonl", ".parquet"):
        raise UserError(
            f"--out {out} has no format for predictions; end the name in .csv, .jsonl or .parquet"
        )
    return file


def _rows(predictions: Iterator[Prediction]) -> Iterator[dict[str, str | float]]:
    for found in predictions:
        row: dict[str, str | float] = {"file": found.file}
        for rank, (name, share) in enumerate(zip(found.classes, found.probabilities, strict=True), 1):
            row |= {f"class{rank}": name, f"probability{rank}": share}
        yield row


def _json_lines(rows: Sequence[dict[str, str | float]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _parquet(rows: list[dict[str, str | float]]) -> bytes:
    import pyarrow as pa  # heavy: only for this format
    import pyarrow.parquet as pq  # heavy: only for this format

    data = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), data)
    return data.getvalue()


def write_test_predictions(run: Path, images: ImageSet, evaluation: Evaluation) -> None:
    """Write `predictions.parquet` into a run directory: id, label, guess and confidence of every image, in the order of the set.

    Reports need it for intervals over images, and for confusions and calibration over several runs.
    """
    import pyarrow as pa  # heavy: only when a run ends
    import pyarrow.parquet as pq  # heavy: only when a run ends

    columns = {
        "id": pa.array(images.ids, pa.string()),
        "label": pa.array(images.labels, pa.int64()),
        "guess": pa.array(evaluation.predictions, pa.int64()),
        "confidence": pa.array(evaluation.confidences, pa.float32()),
    }
    data = io.BytesIO()
    pq.write_table(pa.table(columns), data)
    Store(run).write_atomic(_TEST_PREDICTIONS, data.getvalue())
