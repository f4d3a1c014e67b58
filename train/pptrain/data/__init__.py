"""Where batches come from: resident, streamed and labelled images, their order and their views."""

from pptrain.data.conditions import ConditionTable, open_conditions
from pptrain.data.decoding import decode_into
from pptrain.data.feed import BatchShare, Feed, RawBatch
from pptrain.data.labeled import choose_labeled, choose_monitored, fingerprint, split_validation, val_share
from pptrain.data.order import LaneOrder
from pptrain.data.prefetch import RawPair, prefetched
from pptrain.data.resident import ResidentFeed, load_resident
from pptrain.data.shard_pool import ShardPool, open_shard_pool
from pptrain.data.stream import StreamFeed
from pptrain.data.views import ViewKey, ViewKind, Views

__all__ = [
    "BatchShare",
    "ConditionTable",
    "Feed",
    "LaneOrder",
    "RawBatch",
    "RawPair",
    "ResidentFeed",
    "ShardPool",
    "StreamFeed",
    "ViewKey",
    "ViewKind",
    "Views",
    "choose_labeled",
    "choose_monitored",
    "decode_into",
    "fingerprint",
    "load_resident",
    "open_conditions",
    "open_shard_pool",
    "prefetched",
    "split_validation",
    "val_share",
]
