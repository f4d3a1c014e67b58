"""Results over seeds: mean, standard deviation, paired differences with their intervals, and the tables that show them."""

from ppflow.statistics.comparisons import Correct, Difference, Row, Table, image_interval, make_table
from ppflow.statistics.formats import FORMATS, as_text, cells, explain, header, headline_sentences
from ppflow.statistics.results import Result, Results, read_results, results_csv
