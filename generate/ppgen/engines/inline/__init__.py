"""The engine without a cluster: this process, or several processes of this machine."""

from ppgen.engines.inline.engine import InlineEngine

__all__ = ["InlineEngine"]
