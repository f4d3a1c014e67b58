"""What every HTML report is made of: the page, its pictures and its plots."""

from ppcore.page.conditioned import PAIR_STYLE, conditioned, pairs
from ppcore.page.html import page, table
from ppcore.page.pictures import sheet, strip
from ppcore.page.plots import WIDTH, colour, frame, grid_line, histogram, ticks

__all__ = [
    "PAIR_STYLE",
    "WIDTH",
    "colour",
    "conditioned",
    "frame",
    "grid_line",
    "histogram",
    "page",
    "pairs",
    "sheet",
    "strip",
    "table",
    "ticks",
]
