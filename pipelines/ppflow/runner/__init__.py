"""From a recipe to finished stages: the graph of jobs, their cached results, and the processes that work them off."""

from ppflow.runner.graph import Job, JobKey, expand
from ppflow.runner.pool import FinishedJob, run_jobs

__all__ = ["FinishedJob", "Job", "JobKey", "expand", "run_jobs"]
