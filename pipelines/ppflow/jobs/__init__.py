"""From a recipe to jobs: the graph, what addresses a job, and what a finished one left behind. Loads nothing heavy."""

from ppflow.jobs.fingerprint import code_version
from ppflow.jobs.graph import Graph, Job, expand
from ppflow.jobs.manifest import Run, correct_images, make_run, read_run, write_run
from ppflow.jobs.outcomes import FailedJob, FinishedJob, Outcomes, find_done
from ppflow.jobs.records import RESULT, Judged, StageResult, cached_result, read_judged, write_record

__all__ = [
    "RESULT",
    "FailedJob",
    "FinishedJob",
    "Graph",
    "Job",
    "Judged",
    "Outcomes",
    "Run",
    "StageResult",
    "cached_result",
    "code_version",
    "correct_images",
    "expand",
    "find_done",
    "make_run",
    "read_judged",
    "read_run",
    "write_record",
    "write_run",
]
