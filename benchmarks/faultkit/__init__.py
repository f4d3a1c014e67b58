"""The faults that `faults.py` injects, and the cluster and commands that it runs."""
