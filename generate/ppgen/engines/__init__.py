"""Who runs shards, and where: leases, retries, workers; inline or on Ray, which is loaded when it is asked for."""

from ppgen.engines.base import (
    Began,
    Committed,
    Ended,
    Engine,
    Event,
    Failed,
    Joined,
    Left,
    Missed,
    Notice,
    OnEvent,
    Quarantined,
    Retried,
    Sampled,
    Workers,
)
from ppgen.engines.defaults import cores, default_out, default_threads, default_workers
from ppgen.engines.describe import Workplace, calibrate_for, open_for_plan, spec_here
from ppgen.engines.failures import WorkerLocation
from ppgen.engines.make import make_engine
from ppgen.engines.ray import cluster as ray_cluster
from ppgen.engines.ray import load_ray
from ppgen.engines.run import prepare_job, run_job

__all__ = [
    "Began",
    "Committed",
    "Ended",
    "Engine",
    "Event",
    "Failed",
    "Joined",
    "Left",
    "Missed",
    "Notice",
    "OnEvent",
    "Quarantined",
    "Retried",
    "Sampled",
    "WorkerLocation",
    "Workers",
    "Workplace",
    "calibrate_for",
    "cores",
    "default_out",
    "default_threads",
    "default_workers",
    "load_ray",
    "make_engine",
    "open_for_plan",
    "prepare_job",
    "ray_cluster",
    "run_job",
    "spec_here",
]
