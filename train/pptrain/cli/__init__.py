"""The command `pptrain`."""

from pptrain.cli.commands import app, main
