"""The command `pptrain`."""

from pptrain.cli.app import app, main

__all__ = ["app", "main"]
