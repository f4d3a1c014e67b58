"""A run's numbers for Prometheus: a text file for node-exporter's textfile collector, or Ray's own metrics."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

from ppcore.errors import UserError
from ppgen.engines import Committed, Ended, Event
from ppgen.journal.counts import Counts

EVERY_S = 5.0
_log = logging.getLogger(__name__)

# Field of Counts -> metric's name, kind, help.
_METRICS = {
    "planned_samples": ("ppgen_planned_samples", "gauge", "Samples that the run has to make."),
    "planned_shards": ("ppgen_planned_shards", "gauge", "Shards that the run has to make."),
    "sampled": ("ppgen_sampled_total", "counter", "Samples drawn, those of repeated attempts among them."),
    "samples": ("ppgen_committed_samples_total", "counter", "Samples in committed shards."),
    "shards": ("ppgen_committed_shards_total", "counter", "Committed shards."),
    "failed_attempts": ("ppgen_failed_attempts_total", "counter", "Attempts at a shard that failed."),
    "failed_shards": ("ppgen_failed_shards_total", "counter", "Shards given up."),
    "quarantined": ("ppgen_quarantined_total", "counter", "Nodes or devices that get no more shards."),
    "alive": ("ppgen_workers_alive", "gauge", "Workers ready for work."),
    "wanted": ("ppgen_workers_wanted", "gauge", "Workers wanted."),
}


class MetricsFile:
    """Keeps a file in Prometheus' text format up to date, replaced as a whole every few seconds.

    Args:
        path: must end in `.prom`, as the textfile collector wants it.
        out: the shard directory, a label.

    Raises:
        UserError: the path cannot be.
    """

    def __init__(self, path: str, out: str) -> None:
        self._path, self._out, self._counts = Path(path), out, Counts()
        if self._path.suffix != ".prom" or not self._path.absolute().parent.is_dir():
            raise UserError(
                f"--metrics-file {path} cannot be written; give a file NAME.prom in a folder that is there"
            )
        self._written = 0.0
        self._last_commit = 0.0
        self._warned = False

    def __call__(self, event: Event) -> None:
        """Count an event, write if it is time."""
        self._counts.add(event)
        if isinstance(event, Committed):
            self._last_commit = time.time()
        now = time.monotonic()
        if now - self._written >= EVERY_S or isinstance(event, Ended):
            self._written = now
            self._write()

    def text(self) -> str:
        """The file's content."""
        label = self._out.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        rows = [
            (name, kind, text, getattr(self._counts, field)) for field, (name, kind, text) in _METRICS.items()
        ]
        rows.append(
            (
                "ppgen_last_commit_timestamp_seconds",
                "gauge",
                "When the last shard was committed; 0 before.",
                self._last_commit,
            )
        )
        return "".join(
            f'# HELP {name} {text}\n# TYPE {name} {kind}\n{name}{{out="{label}"}} {value}\n'
            for name, kind, text, value in rows
        )

    def _write(self) -> None:
        staged = self._path.with_suffix(f".{os.getpid()}.tmp")
        try:
            staged.write_text(self.text())
            os.replace(staged, self._path)
        except OSError as error:
            if not self._warned:
                _log.warning("%s cannot be written (%s); the run goes on without", self._path, error)
            self._warned = True


class RayMetrics:
    """The same numbers through `ray.util.metrics`: on every node that exports Ray's, tagged with the directory.

    Args:
        out: the shard directory, a tag.
    """

    def __init__(self, out: str) -> None:
        self._tags, self._counts = {"out": out}, Counts()
        self._told: dict[str, int] = {}
        self._metrics: dict[str, Any] = {}
        self._set_at = 0.0

    def __call__(self, event: Event) -> None:
        """Count an event, pass on what changed every few seconds, while there is a Ray: a local one comes late and goes early."""
        self._counts.add(event)
        now = time.monotonic()
        # Every shard is worth it: a local Ray is gone when the run tells its end.
        if now - self._set_at < EVERY_S and not isinstance(event, Committed | Ended):
            return
        if not self._ray_is_there():
            return
        self._set_at = now
        self._metrics = self._metrics or self._make()
        for field, metric in self._metrics.items():
            value = getattr(self._counts, field)
            if _METRICS[field][1] == "gauge":
                metric.set(value, self._tags)
            elif value > self._told.get(field, 0):
                metric.inc(value - self._told.get(field, 0), self._tags)
                self._told[field] = value

    @staticmethod
    def _ray_is_there() -> bool:
        import ray  # optional: only for --engine ray

        return bool(ray.is_initialized())

    @staticmethod
    def _make() -> dict[str, Any]:
        from ray.util.metrics import Counter, Gauge  # optional: only for --engine ray

        kinds = {"gauge": Gauge, "counter": Counter}
        return {
            field: kinds[kind](name.removesuffix("_total"), description=text, tag_keys=("out",))
            for field, (name, kind, text) in _METRICS.items()
        }
