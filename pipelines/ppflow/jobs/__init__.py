"""From a recipe to jobs: the graph, the digest that identifies a job, and the results of finished ones. Imports nothing heavy."""

from ppflow.jobs.graph import Graph, StageJob, code_version, expand
from ppflow.jobs.results import (
    RESULT,
    JobFailure,
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
