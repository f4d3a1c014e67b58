"""The command line of the programs in this folder."""

from __future__ import annotations

import argparse


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the description and shows the default of every option that is not required."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return f"{action.help} (required)" if action.required else super()._get_help_string(action)


def new_parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """A parser for `python -m tools.kits.MODULE`."""
    return argparse.ArgumentParser(
        prog=f"python -m tools.kits.{module}", description=description, formatter_class=_Help
    )
