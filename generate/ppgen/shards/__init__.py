"""Making one shard, and the directory it belongs to."""

from ppgen.shards.commit import ShardCommit, read_commit, stored_file, write_commit
from ppgen.shards.directory import (
    Survey,
    claimed,
    create_plan,
    exclusive,
    hold_part,
    pending_shards,
    read_plan,
    reconcile_plan,
    require_empty,
    require_writable,
    survey,
)
from ppgen.shards.finalize import finalize, make_index, read_rows
from ppgen.shards.pack import Samples, describe_rows, entropy, pack, pack_tar, to_parquet
from ppgen.shards.sampler import MAX_DRAWS, BadImagesError, with_attempts
from ppgen.shards.worker import SMALL_SIDE, Job, Worker, calibrate
