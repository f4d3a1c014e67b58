"""Sharing directories: pushing to the hub, and the licences that allow it."""

from ppgen.exchange.hub import push_to_hub
from ppgen.exchange.permission import require_redistribution
