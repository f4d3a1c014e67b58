"""Running shards on workers: the driver with its retries, workers of this machine or on Ray, and the progress of a run."""

from ppgen.engines.cluster import cluster as ray_cluster
from ppgen.engines.cluster import load_ray
from ppgen.engines.engine import Engine, cores, default_out, default_threads, default_workers, make_engine
from ppgen.engines.events import Event, OnEvent
from ppgen.engines.prepare import open_for_workers
from ppgen.engines.run import prepare_job, run_job

__all__ = [
    "Engine",
    "Event",
    "OnEvent",
    "cores",
    "default_out",
    "default_threads",
    "default_workers",
    "load_ray",
    "make_engine",
    "open_for_workers",
    "prepare_job",
    "ray_cluster",
    "run_job",
]
