"""The command `ppflow`."""

from ppflow.cli.commands import app, main
