"""What both sides of the shard directory agree on: shards, targets, classifiers, kits."""
