"""The command `ppflow`."""

from ppflow.cli.commands import app, main

__all__ = ["app", "main"]
