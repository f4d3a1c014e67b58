"""Who runs shards, and where: leases, retries, workers; inline or on Ray, which is loaded when it is asked for."""

from ppgen.engines.base import Engine
from ppgen.engines.defaults import default_out, default_threads, default_workers
from ppgen.engines.make import make_engine
from ppgen.engines.run import prepare_job, run_job

__all__ = [
    "Engine",
    "default_out",
    "default_threads",
    "default_workers",
    "make_engine",
    "prepare_job",
    "run_job",
]
