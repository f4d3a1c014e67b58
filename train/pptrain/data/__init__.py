"""Batches of training images: from memory or from shards, their order, and the views (augmentations) of them."""

from pptrain.data.feed import BatchShare, DecodingFeed, Feed, RawBatch, ResidentFeed, load_resident
from pptrain.data.labeled import choose_labeled, choose_monitored, fingerprint, split_validation, val_share
from pptrain.data.order import LaneOrder
from pptrain.data.shard_pool import ConditionTable, ShardPool, open_conditions, open_shard_pool
from pptrain.data.stream import StreamFeed, read_epoch
from pptrain.data.transforms import decode_into
from pptrain.data.views import ViewKey, ViewKind, Views
