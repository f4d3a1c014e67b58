"""What a finished job left behind: its result, read from its folder, and how long it took."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from ppcore.shards import INDEX, ShardSet
from ppcore.storage import Store, open_table, read_json
from ppflow.jobs.graph import Job
from ppflow.recipe import MODELS

RESULT = "result.json"
PREDICTIONS = "predictions.parquet"


@dataclass(frozen=True)
class StageResult:
    """What a job came to.

    Attributes:
        samples: of a generation.
        steps: of a training.
        accuracy, val_accuracy: shares, on the test and on the validation images where there are any.
        images: test images.
        file: of an export.
        seconds: that it took, over all interruptions where the stage says so; None where nobody noted it.
    """

    samples: int | None = None
    steps: int | None = None
    accuracy: float | None = None
    val_accuracy: float | None = None
    images: int | None = None
    file: str | None = None
    seconds: float | None = None

    def __str__(self) -> str:
        if self.file is not None:
            return self.file
        if self.accuracy is not None:
            return f"accuracy {100 * self.accuracy:.1f} %"
        return f"{self.steps} steps" if self.samples is None else f"{self.samples} images"


@dataclass(frozen=True)
class _Test:
    images: int


@dataclass(frozen=True)
class _TrainingResult:
    """What is read of pptrain's result.json; pre-training has no accuracy."""

    steps: int
    seconds: float
    accuracy: float | None
    val_accuracy: float | None = None
    test: _Test | None = None


@dataclass(frozen=True)
class StageRecord:
    """Written beside a job's folder when it is done; for people, and for the time that it took."""

    stage: str
    group: str
    seed: int | None
    kind: str
    digest: str
    seconds: float
    host: str


def cached_result(job: Job) -> StageResult | None:
    """What the job came to when it was done before; None when it was not."""
    if job.kind in ("synth", "pseudo"):
        if not (job.folder / INDEX).is_file():
            return None
        found = StageResult(samples=ShardSet.open(str(job.folder)).samples)
    else:
        path = job.folder / RESULT
        if not path.is_file():
            return None
        found = _trained(path) if job.kind in MODELS else read_json(path, StageResult)
    record = read_record(job)
    return replace(found, seconds=record.seconds) if record is not None else found


def write_record(job: Job, seconds: float, host: str) -> None:
    record = StageRecord(job.stage, job.group, job.seed, job.kind, job.digest, round(seconds, 3), host)
    path = _record_path(job)
    Store(path.parent).write_atomic(path.name, (json.dumps(asdict(record), indent=1) + "\n").encode())


def read_record(job: Job) -> StageRecord | None:
    path = _record_path(job)
    return read_json(path, StageRecord) if path.is_file() else None


@dataclass(frozen=True)
class Judged:
    """What a classifier said of the N test images, in their order: int64 (N,) labels and guesses, float32 (N,) confidences."""

    ids: list[str]
    labels: np.ndarray
    guesses: np.ndarray
    confidences: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        """bool (N,)."""
        return self.labels == self.guesses


def read_judged(folder: Path) -> Judged | None:
    """What a training run noted of its test images; None where it did not."""
    path = folder / PREDICTIONS
    if not path.is_file():
        return None
    with path.open("rb") as handle:
        found = open_table(handle).read(use_threads=False)
    ids, *numbers = (found[name].to_pylist() for name in ("id", "label", "guess", "confidence"))
    labels, guesses, confidences = map(
        np.array, numbers
    )  # by way of lists: Arrow's own way loads pandas where there is one
    return Judged(ids, labels, guesses, confidences.astype(np.float32))


def _trained(path: Path) -> StageResult:
    found = read_json(path, _TrainingResult)
    images = None if found.test is None else found.test.images
    return StageResult(
        steps=found.steps,
        accuracy=found.accuracy,
        val_accuracy=found.val_accuracy,
        images=images,
        seconds=found.seconds,
    )


def _record_path(job: Job) -> Path:
    return job.folder.with_name(job.folder.name + ".json")
