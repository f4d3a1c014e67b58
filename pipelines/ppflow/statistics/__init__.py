"""Results over seeds: mean, standard deviation, paired differences with their intervals, and the tables that show them."""

from ppflow.statistics.bootstrap import Correct, image_interval
from ppflow.statistics.comparisons import Difference, Row, Table, make_table
from ppflow.statistics.formats import FORMATS, as_text, cells, explain, header, render
from ppflow.statistics.results import Result, Results, read_results, results_csv
from ppflow.statistics.verdict import verdict

__all__ = [
    "FORMATS",
    "Correct",
    "Difference",
    "Result",
    "Results",
    "Row",
    "Table",
    "as_text",
    "cells",
    "explain",
    "header",
    "image_interval",
    "make_table",
    "read_results",
    "render",
    "results_csv",
    "verdict",
]
