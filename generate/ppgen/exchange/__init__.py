"""Shard directories handed on: pushed to an object store or the hub, pulled from there, with licences respected and bytes compared."""

from ppgen.exchange.hub import push_to_hub
from ppgen.exchange.mirror import mirror
from ppgen.exchange.permission import require_redistribution

__all__ = ["mirror", "push_to_hub", "require_redistribution"]
