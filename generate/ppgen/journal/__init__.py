"""What happens in a run, for people and machines that look on: the event log, metrics, and the status read from a directory."""

from ppgen.journal.events import EventLog
from ppgen.journal.metrics import MetricsFile, RayMetrics
from ppgen.journal.render import render
from ppgen.journal.status import Status, read_status

__all__ = ["EventLog", "MetricsFile", "RayMetrics", "Status", "read_status", "render"]
