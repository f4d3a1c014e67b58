"""Shard directories and soft labels for your own training programs."""

from ppcore import __version__
from pptransfer.datasets import MappedShards, open_shards, shard_urls, soft_labels, timm_split
from pptransfer.streamed import StreamedShards

__all__ = [
    "MappedShards",
    "StreamedShards",
    "__version__",
    "open_shards",
    "shard_urls",
    "soft_labels",
    "timm_split",
]
