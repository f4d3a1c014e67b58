"""How good a directory's images are: features, distances, agreement, duplicates, the report."""

from ppgen.quality.assessment import assess
from ppgen.quality.duplicates import digest_prefixes, repeated
from ppgen.quality.inputs import ReportRequest
from ppgen.quality.report import QUALITY, summary_rows, write_report

__all__ = [
    "QUALITY",
    "ReportRequest",
    "assess",
    "digest_prefixes",
    "repeated",
    "summary_rows",
    "write_report",
]
