"""Engines: where shards are made. `inline` needs nothing; all share :class:`ppgen.engines.base.Engine`."""
