"""The trainer: streams synthetic shards and a few labelled target images into a classifier."""
