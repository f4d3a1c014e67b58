"""Parts of the HTML reports: the page, tables, plots and images."""

from ppcore.page.plots import (
    calibration_plot,
    dot_plot,
    figures,
    histogram,
    line_plot,
    matrix_plot,
    page,
    table,
)
from ppcore.page.samples import (
    CLASS_STYLE,
    PAIR_STYLE,
    class_strips,
    conditioned,
    conditioned_by,
    labelled_sheet,
    pairs,
    sheet,
    soft_labels,
    strip,
)
