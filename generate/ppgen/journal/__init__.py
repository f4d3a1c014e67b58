"""Observing a run: its event log, its metrics, and the status of a directory."""

from ppgen.journal.log import EventLog
from ppgen.journal.metrics import MetricsFile, RayMetrics
from ppgen.journal.status import Status, read_status, render
