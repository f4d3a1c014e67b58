"""What a stage of each kind does: the same functions that stand behind `ppgen synth`, `ppgen pseudo` and `pptrain run`."""

from __future__ import annotations

from dataclasses import dataclass

from ppcore.shards import INDEX, ShardSet
from ppcore.storage import read_json
from ppflow.runner.graph import Job
from ppgen.cli import generate, read_options
from pptrain.config import load_config
from pptrain.engine import train

RESULT = "result.json"


@dataclass(frozen=True)
class StageResult:
    """What a job reports: `samples` of a generation; `steps` of a training and, with test images, `accuracy` (a share)."""

    samples: int | None = None
    steps: int | None = None
    accuracy: float | None = None

    def __str__(self) -> str:
        if self.accuracy is not None:
            return f"accuracy {100 * self.accuracy:.1f} %"
        return f"{self.steps} steps" if self.samples is None else f"{self.samples} images"


@dataclass(frozen=True)
class _TrainingResult:
    """What is read of pptrain's result.json; pre-training has no accuracy."""

    steps: int
    accuracy: float | None


def cached_result(job: Job) -> StageResult | None:
    """What the job reported when it was done before; None when it was not."""
    if job.kind != "train":
        return _count_samples(job) if (job.folder / INDEX).is_file() else None
    path = job.folder / RESULT
    if not path.is_file():
        return None
    found = read_json(path, _TrainingResult)
    return StageResult(steps=found.steps, accuracy=found.accuracy)


def run_stage(job: Job) -> StageResult:
    """Do the job, or the rest of it.

    Raises:
        UserError: the request makes no sense.
        RuntimeError: shards failed.
    """
    if job.kind == "train":
        done = train(load_config(overrides={**job.settings, "out": str(job.folder)}))
        return StageResult(steps=done.steps, accuracy=done.accuracy)
    status = generate(read_options(job.kind, {"workers": 1, **job.settings, "out": str(job.folder)}))
    if status:
        raise RuntimeError(f"{job.label} failed with status {status}; see {job.folder}.log")
    return _count_samples(job)


def _count_samples(job: Job) -> StageResult:
    return StageResult(samples=ShardSet.open(str(job.folder)).samples)
