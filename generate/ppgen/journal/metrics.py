"""Counts of a run for Prometheus: as a text file for node-exporter's textfile collector, or through Ray's own metrics."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ppcore.errors import UserError
from ppgen.engines import Event

EVERY_S = 5.0
_log = logging.getLogger(__name__)

_METRICS = {  # name -> help; names of counters end in _total, the others are gauges
    "ppgen_planned_samples": "Samples that the run has to make.",
    "ppgen_planned_shards": "Shards that the run has to make.",
    "ppgen_sampled_total": "Samples drawn, including those of repeated attempts.",
    "ppgen_committed_samples_total": "Samples in committed shards.",
    "ppgen_committed_shards_total": "Committed shards.",
    "ppgen_failed_attempts_total": "Attempts at a shard that failed.",
    "ppgen_failed_shards_total": "Shards given up.",
    "ppgen_quarantined_total": "Nodes or devices that get no more shards.",
    "ppgen_workers_alive": "Workers ready for work.",
    "ppgen_workers_wanted": "Workers wanted.",
    "ppgen_last_commit_timestamp_seconds": "When the last shard was committed; 0 before.",
}
_COUNTED = {  # event -> the counter that it raises by one
    "committed": "ppgen_committed_shards_total",
    "missed": "ppgen_failed_attempts_total",
    "failed": "ppgen_failed_shards_total",
    "quarantined": "ppgen_quarantined_total",
}


class Counts(dict[str, float]):
    """Name of a metric -> its value so far in a run."""

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(_METRICS, 0))

    def add(self, event: Event) -> None:
        """Count one event."""
        if event.event in _COUNTED:
            self[_COUNTED[event.event]] += 1
        if event.event == "began":
            self["ppgen_planned_samples"], self["ppgen_planned_shards"] = (
                event.samples or 0,
                event.shards or 0,
            )
        elif event.event == "sampled":
            self["ppgen_sampled_total"] += event.samples or 0
        elif event.event == "committed":
            self["ppgen_committed_samples_total"] += event.samples or 0
            self["ppgen_last_commit_timestamp_seconds"] = event.time
        elif event.event == "workers":
            self["ppgen_workers_alive"], self["ppgen_workers_wanted"] = event.alive or 0, event.wanted or 0
        elif event.event == "ended":
            self["ppgen_workers_alive"] = 0


class MetricsFile:
    """Rewrites a file in Prometheus' text format every few seconds.

    Args:
        path: must end in `.prom`: the textfile collector reads no other files.
        out: the shard directory, a label.

    Raises:
        UserError: the path has another ending, its folder does not exist, or prometheus_client is not installed.
    """

    def __init__(self, path: str, out: str) -> None:
        self._path, self._out, self._counts = Path(path), out, Counts()
        if self._path.suffix != ".prom" or not self._path.absolute().parent.is_dir():
            raise UserError(
                f"--metrics-file {path} cannot be written; give a file NAME.prom in an existing folder"
            )
        try:
            import prometheus_client.core  # optional: only for --metrics-file
        except ImportError as error:
            raise UserError(
                f"--metrics-file needs prometheus_client ({error}); pip install 'pptransfer[generate]'"
            ) from error
        self._prometheus = prometheus_client
        self._registry = prometheus_client.CollectorRegistry()
        self._registry.register(self)  # type: ignore[arg-type]  # it needs no more than `collect`
        self._written = 0.0
        self._warned = False

    def __call__(self, event: Event) -> None:
        """Count an event; write the file if it is time."""
        self._counts.add(event)
        now = time.monotonic()
        if now - self._written < EVERY_S and event.event != "ended":
            return
        self._written = now
        try:
            self._prometheus.write_to_textfile(str(self._path), self._registry)
        except OSError as error:
            if not self._warned:
                _log.warning("%s cannot be written (%s); the run goes on without it", self._path, error)
            self._warned = True

    def collect(self) -> Iterator[Any]:
        """The metrics of prometheus_client, one of each kind of count."""
        for name, text in _METRICS.items():
            core = self._prometheus.core
            metric = (core.CounterMetricFamily if name.endswith("_total") else core.GaugeMetricFamily)(
                name, text, labels=["out"]
            )
            metric.add_metric([self._out], self._counts[name])
            yield metric


class RayMetrics:
    """Reports the same counts through `ray.util.metrics`, tagged with the directory `out`."""

    def __init__(self, out: str) -> None:
        self._tags, self._counts = {"out": out}, Counts()
        self._reported: dict[str, float] = {}
        self._metrics: dict[str, Any] = {}
        self._set_at = 0.0

    def __call__(self, event: Event) -> None:
        """Count an event; report the counts after every commit and every few seconds, while this process is connected to Ray."""
        import ray  # optional: only for --engine ray
        from ray.util.metrics import Counter, Gauge  # optional: likewise

        self._counts.add(event)
        now = time.monotonic()
        # After every commit, because a local Ray has stopped before the run reports its end.
        due = now - self._set_at >= EVERY_S or event.event in ("committed", "ended")
        if not due or not ray.is_initialized():
            return
        self._set_at = now
        for name, value in self._counts.items():
            counts = name.endswith("_total")
            if name not in self._metrics:
                kind, short = Counter if counts else Gauge, name.removesuffix("_total")
                self._metrics[name] = kind(short, description=_METRICS[name], tag_keys=("out",))
            if not counts:
                self._metrics[name].set(value, self._tags)
            elif value > self._reported.get(name, 0):
                self._metrics[name].inc(value - self._reported.get(name, 0), self._tags)
                self._reported[name] = value
