"""Runs jobs: what each kind of stage does, the processes or the Ray cluster that do it, and in which order."""

from ppflow.runner.schedule import Executor, LocalExecutor, RayExecutor, run_jobs
from ppflow.runner.stages import check_job, training_config
