"""The command `ppgen`: every option declared once."""

from ppgen.cli.commands import app, main

__all__ = ["app", "main"]
