"""Works jobs off: what a stage of each kind does, the processes or the Ray cluster that do it, and the order of it."""

from ppflow.runner.engines import Engine, LocalEngine, RayEngine
from ppflow.runner.schedule import run_jobs
from ppflow.runner.sizes import Size, Sizes
from ppflow.runner.stages import check_job

__all__ = ["Engine", "LocalEngine", "RayEngine", "Size", "Sizes", "check_job", "run_jobs"]
