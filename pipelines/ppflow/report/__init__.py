"""The report of an experiment: which tables, curves and samples go on its page."""

from ppflow.report.page import make_report

__all__ = ["make_report"]
