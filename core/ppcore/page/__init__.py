"""What every HTML report is made of: the page, its plots and its pictures."""

from ppcore.page.by_class import CLASS_STYLE, class_strips
from ppcore.page.conditioned import PAIR_STYLE, conditioned, pairs
from ppcore.page.html import page, table
from ppcore.page.pictures import sheet, strip
from ppcore.page.plots import dot_plot, histogram, line_plot

__all__ = [
    "CLASS_STYLE",
    "PAIR_STYLE",
    "class_strips",
    "conditioned",
    "dot_plot",
    "histogram",
    "line_plot",
    "page",
    "pairs",
    "sheet",
    "strip",
    "table",
]
