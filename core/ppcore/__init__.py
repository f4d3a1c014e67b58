"""The parts that ppgen, pptrain and ppflow share: shards, targets, classifiers, kits, storage."""

__version__ = "0.1.0"
"""Version of the whole distribution (semantic versioning)."""

SHARD_FORMAT = 2
"""Version of the format of shard directories."""
