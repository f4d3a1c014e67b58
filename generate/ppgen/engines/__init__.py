"""Who runs shards, and where: leases, retries, workers; inline or on Ray.

`ppgen.engines.ray` and `ppgen.engines.cluster` need Ray and are imported where they are asked for.
"""

from ppgen.engines.base import Engine
from ppgen.engines.inline import InlineEngine
from ppgen.engines.run import default_out, default_threads, default_workers, prepare_job, run_job

__all__ = [
    "Engine",
    "InlineEngine",
    "default_out",
    "default_threads",
    "default_workers",
    "prepare_job",
    "run_job",
]
