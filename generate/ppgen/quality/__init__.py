"""How good a directory's images are: `assess` measures, `write_report` writes quality.json and report.html."""

from ppgen.quality.assessment import assess
from ppgen.quality.page import QUALITY, summary_rows, write_report
