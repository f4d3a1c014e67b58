"""Where batches come from: resident, streamed and labelled images, their order and their views."""

from pptrain.data.feed import Feed, Images, Share
from pptrain.data.labeled import choose_labeled, choose_monitor, fingerprint, split_validation, val_share
from pptrain.data.pool import Pool, open_pool
from pptrain.data.resident import ResidentFeed, load_resident
from pptrain.data.stream import StreamFeed
from pptrain.data.views import Views

__all__ = [
    "Feed",
    "Images",
    "Pool",
    "ResidentFeed",
    "Share",
    "StreamFeed",
    "Views",
    "choose_labeled",
    "choose_monitor",
    "fingerprint",
    "load_resident",
    "open_pool",
    "split_validation",
    "val_share",
]
