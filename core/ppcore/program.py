"""How each of the commands begins: its typer application, with `--version` and shell completion."""

from __future__ import annotations

import typer

from ppcore import SHARD_FORMAT, __version__


def new_app(name: str, about: str) -> typer.Typer:
    """An application without commands; `name` is what its users type."""
    app = typer.Typer(help=about, no_args_is_help=True, pretty_exceptions_enable=False)

    def show_version(asked: bool) -> None:
        if asked:
            print(f"{name} {__version__}, shard format {SHARD_FORMAT}")
            raise typer.Exit

    @app.callback(help=about)
    def begin(
        version: bool = typer.Option(
            False, "--version", callback=show_version, is_eager=True, help="Print the version."
        ),
    ) -> None:
        """Options of the program itself; each says all it has to say in its callback."""

    return app
