"""Work on existing directories: verify, repair, extend, gather."""

from ppgen.upkeep.extend import grow_plan, replace_plan
from ppgen.upkeep.gather import checked_shard, gather
from ppgen.upkeep.verify import Problems, regenerate_samples, requeue_shards, verify_directory
