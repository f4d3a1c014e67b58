"""The command `ppgen`. :func:`generate` does the same from Python."""

from ppgen.cli.commands import app, generate, main
from ppgen.cli.flatten import read_options
