"""What every command shares at the terminal: exit codes, one-sentence errors, progress lines."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TextIO

import yaml

from ppcore.errors import UserError

EXIT_FAILED = 1
EXIT_USER_ERROR = 2


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised in the main thread so that one clean-up path serves it and Ctrl-C."""


def run_app(app: Callable[..., Any]) -> None:
    """Run a typer app; map :class:`UserError` to exit 2 without traceback, Ctrl-C to 130, SIGTERM to 143."""
    terminated = False

    def on_sigterm(_signum: int, _frame: object) -> None:
        nonlocal terminated
        terminated = True
        raise Terminated

    signal.signal(signal.SIGTERM, on_sigterm)
    try:
        app()
    except UserError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    except SystemExit:
        # Typer turns every KeyboardInterrupt into exit status 130.
        if terminated:
            sys.exit(128 + signal.SIGTERM)
        raise


def printable(text: str) -> str:
    """A line fit for a terminal: names in it may come from strangers, and control characters would steer the terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


def print_warnings(lines: Iterable[str]) -> None:
    """Sentences that a user should see and that stop nothing, on standard error."""
    for line in lines:
        print(f"warning: {printable(line)}", file=sys.stderr, flush=True)


def print_table(lines: Sequence[Sequence[str]]) -> None:
    """Rows of equally many cells, in columns as wide as their widest cell."""
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def parse_settings(pairs: list[str], example: str) -> dict[str, Any]:
    """What was given with `--set`: `["steps=20", "solver=euler"]` -> `{"steps": 20, "solver": "euler"}`; values are YAML.

    Args:
        example: a setting to show to a user who wrote none.

    Raises:
        UserError: no NAME=VALUE, or a value that is no YAML.
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise UserError(f"--set {pair!r} is not NAME=VALUE; write --set {example}")
        try:
            settings[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"--set {pair!r} has a value that cannot be read ({reason}); write --set {example}"
            ) from error
    return settings


def format_duration(seconds: float) -> str:
    """`3725.0` -> `1h02m05s`."""
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes:02d}m{secs:02d}s"
    return f"{minutes}m{secs:02d}s" if minutes else f"{secs}s"


class Progress:
    """Rate now, rate overall and ETA: one rewritten line on a terminal, a log line every `every_s` seconds elsewhere.

    Args:
        total: how many units there are in all.
        unit: name of a unit, plural ("images").
        done: units already finished before this run (a resume); they do not count towards the rate.
        every_s: seconds between lines when the stream is no terminal.
    """

    def __init__(
        self,
        total: int,
        unit: str,
        *,
        done: int = 0,
        every_s: float = 10.0,
        label: str = "",
        stream: TextIO | None = None,
    ) -> None:
        self.total, self.unit, self.done, self.label = total, unit, done, label
        self._stream = stream if stream is not None else sys.stderr
        self._tty = self._stream.isatty()
        self._every = 0.2 if self._tty else every_s
        self._first = done
        self._start = self._last_time = time.monotonic()
        self._last_done = done
        self._width = 0

    def advance(self, count: int, note: str = "") -> None:
        """Count `count` more units and print if a line is due."""
        self.done += count
        now = time.monotonic()
        if now - self._last_time >= self._every:
            self._print(now, note)

    def _print(self, now: float, note: str) -> None:
        recent = (self.done - self._last_done) / max(now - self._last_time, 1e-9)
        overall = (self.done - self._first) / max(now - self._start, 1e-9)
        left = (self.total - self.done) / overall if overall > 0 else float("inf")
        eta = format_duration(left) if left != float("inf") else "?"
        line = (
            f"{self.label + ': ' if self.label else ''}{self.done}/{self.total} {self.unit}, "
            f"{recent:.1f}/s now, {overall:.1f}/s overall, ETA {eta}{', ' + note if note else ''}"
        )
        self._last_time, self._last_done = now, self.done
        end = "\r" if self._tty else "\n"
        self._stream.write(line.ljust(self._width) + end)
        self._stream.flush()
        self._width = len(line)

    def close(self, note: str = "") -> None:
        """Print the last line."""
        seconds = time.monotonic() - self._start
        rate = (self.done - self._first) / max(seconds, 1e-9)
        line = (
            f"{self.label + ': ' if self.label else ''}{self.done}/{self.total} {self.unit} in "
            f"{format_duration(seconds)}, {rate:.1f}/s{', ' + note if note else ''}"
        )
        self._stream.write(line.ljust(self._width) + "\n")
        self._stream.flush()
