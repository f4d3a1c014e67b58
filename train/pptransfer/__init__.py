"""Shard directories and soft labels for trainers of your own: four functions and what they return."""

from ppcore import __version__
from pptransfer.datasets import open_shards
from pptransfer.labels import soft_labels
from pptransfer.mapped import MappedShards
from pptransfer.samples import shard_urls, timm_split
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
