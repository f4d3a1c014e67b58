"""From a recipe to jobs: the graph, the digest that identifies a job, and the results of finished ones. Imports nothing heavy."""

from ppflow.jobs.fingerprint import code_version
from ppflow.jobs.graph import Graph, Job, expand
from ppflow.jobs.results import (
    RESULT,
    Failure,
    Outcomes,
    Predictions,
    Run,
    StageResult,
    correct_images,
    find_done,
    make_run,
    read_predictions,
    read_run,
    stored_result,
    write_record,
    write_run,
)

__all__ = [
    "RESULT",
    "Failure",
    "Graph",
    "Job",
    "Outcomes",
    "Predictions",
    "Run",
    "StageResult",
    "code_version",
    "correct_images",
    "expand",
    "find_done",
    "make_run",
    "read_predictions",
    "read_run",
    "stored_result",
    "write_record",
    "write_run",
]
