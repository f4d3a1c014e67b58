"""Running shards on workers: the driver with its retries, workers of this machine or on Ray, and the progress of a run."""

from ppgen.engines.cluster import cluster as ray_cluster
from ppgen.engines.cluster import load_ray
from ppgen.engines.engine import (
    cores,
    default_out,
    default_threads,
    default_workers,
    describe_workers,
    make_shards,
    open_for_workers,
)
from ppgen.engines.events import Event, OnEvent
from ppgen.engines.run import prepare_job, run_job
