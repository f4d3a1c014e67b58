"""What both sides of the shard directory agree on: shards, targets, classifiers, kits."""

__version__ = "0.1.0"
"""Of the whole distribution (semantic versioning)."""

SHARD_FORMAT = 2
"""Version of the shard directories that are written; `ppcore.shards.READABLE` are those that are read."""
