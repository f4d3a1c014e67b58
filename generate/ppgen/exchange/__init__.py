"""Sharing directories: pushing to the hub, and the licences that allow it."""

from ppgen.exchange.hub import push_to_hub, require_redistribution
