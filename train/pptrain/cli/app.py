"""`pptrain`: train, evaluate, predict, export."""

from __future__ import annotations

import typer

from ppcore.console import run_app
from pptrain.cli.tools import evaluate, export, methods, predict
from pptrain.cli.train import run

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__.replace("`", "")
)
app.command()(run)
app.command(name="eval")(evaluate)
app.command()(predict)
app.command()(export)
app.command()(methods)


def main() -> None:
    """Entry point of the console command."""
    run_app(app)
