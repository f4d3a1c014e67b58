"""How good a directory's images are: features, distances, agreement, duplicates, the report."""

from ppgen.quality.assessment import Question, assess
from ppgen.quality.duplicates import digest_prefixes, repeated
from ppgen.quality.report import QUALITY, summary_rows, write_report

__all__ = ["QUALITY", "Question", "assess", "digest_prefixes", "repeated", "summary_rows", "write_report"]
