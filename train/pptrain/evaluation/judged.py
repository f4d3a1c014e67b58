"""What a run said of every test image, kept beside its result: for intervals over images, confusion and calibration over runs."""

from __future__ import annotations

import io
from pathlib import Path

from ppcore.storage import Store
from ppcore.targets import ImageSet
from pptrain.evaluation.report import Report

FILE = "predictions.parquet"


def write_judged(run: Path, images: ImageSet, report: Report) -> None:
    """`predictions.parquet`: id, label, guess and confidence of every image, in the order of the set."""
    import pyarrow as pa  # heavy: only when a run ends
    import pyarrow.parquet as pq  # heavy, likewise

    columns = {
        "id": pa.array(images.ids, pa.string()),
        "label": pa.array(images.labels, pa.int64()),
        "guess": pa.array(report.guesses, pa.int64()),
        "confidence": pa.array(report.confidences, pa.float32()),
    }
    data = io.BytesIO()
    pq.write_table(pa.table(columns), data)
    Store(run).write_atomic(FILE, data.getvalue())
