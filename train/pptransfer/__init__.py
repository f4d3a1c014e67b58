"""Shard directories and soft labels for your own training programs."""

from ppcore import __version__
from pptransfer.datasets import MappedShards, StreamedShards, open_shards, shard_urls, soft_labels, timm_split

__all__ = [
    "MappedShards",
    "StreamedShards",
    "__version__",
    "open_shards",
    "shard_urls",
    "soft_labels",
    "timm_split",
]
