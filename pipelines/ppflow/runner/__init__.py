"""From a recipe to finished stages: the graph of jobs, its cache, and the processes that work it off."""

from ppflow.runner.graph import Key
from ppflow.runner.run import Done, run_nodes

__all__ = ["Done", "Key", "run_nodes"]
