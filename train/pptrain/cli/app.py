"""`pptrain`: train, evaluate, predict, export."""

from __future__ import annotations

from ppcore.console import run_app
from ppcore.program import new_app
from pptrain.cli.tools import evaluate, export, methods, predict
from pptrain.cli.train import run

app = new_app("pptrain", "Train on shards and a few labelled images; evaluate, predict, export.")
app.command()(run)
app.command(name="eval")(evaluate)
app.command()(predict)
app.command()(export)
app.command()(methods)


def main() -> None:
    """Entry point of the console command."""
    run_app(app)
