"""The command `ppgen`: every option declared once. A program may call :func:`generate` as the command line does."""

from ppgen.cli.commands import app, generate, main
from ppgen.cli.flatten import read_options

__all__ = ["app", "generate", "main", "read_options"]
