"""The report of an experiment: the tables, curves and samples on its page."""

from ppflow.report.page import make_report
