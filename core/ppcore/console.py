"""The terminal side of every command: exit codes, one-sentence errors, tables, progress."""

from __future__ import annotations

import atexit
import errno
import io
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, TextIO

import yaml

from ppcore.errors import UserError
from ppcore.places import local_path, local_paths, search_working_directory_last

EXIT_FAILED = 1
EXIT_USER_ERROR = 2
_LONE = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # surrogates that do not stand for a byte


class Terminated(KeyboardInterrupt):
    """Raised in the main thread on SIGTERM, so that SIGTERM and Ctrl-C share one clean-up path."""


def run_app(app: Callable[..., Any]) -> None:
    """Run a typer app; map :class:`UserError` to exit 2 without traceback, Ctrl-C to 130, SIGTERM to 143.

    Every word of the command line may begin with `~/` or `file://` (see :func:`ppcore.places.local_path`). Text that the terminal
    cannot show is printed with escapes.
    """
    terminated = False
    search_working_directory_last()
    encoding = os.environ.get("PYTHONIOENCODING", "").partition(":")[0]
    os.environ["PYTHONIOENCODING"] = f"{encoding}:backslashreplace"  # of child processes
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with suppress(OSError):  # a file that became a pipe after it was opened
                stream.reconfigure(errors="backslashreplace")

    def on_sigterm(_signum: int, _frame: object) -> None:
        nonlocal terminated
        terminated = True
        raise Terminated

    signal.signal(signal.SIGTERM, on_sigterm)
    try:
        app(args=[local_path(word) for word in sys.argv[1:]])
    except UserError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        print(
            f"error: {printable(str(error.filename2 or error.filename))} is too long a name for the file system; shorten it",
            file=sys.stderr,
        )
        sys.exit(EXIT_USER_ERROR)
    except SystemExit:
        # Typer turns every KeyboardInterrupt into exit status 130.
        if terminated:
            sys.exit(128 + signal.SIGTERM)
        raise


def printable(text: str) -> str:
    """The text without control characters: names in a shard directory may come from anybody and could steer the terminal."""
    return "".join(c if c.isprintable() else "?" for c in printable_name(text))


def printable_name(text: str) -> str:
    r"""A name of a file or class as text that any file can hold: `caf\udce9`, Python's form of the bytes `caf\xe9`, becomes `caf\xe9`.

    Text in UTF-8 stays as it is, and so it does if Python has read it as ASCII (LC_ALL=C without UTF-8).
    """
    if text.isascii():  # nearly all names, of which there may be millions
        return text
    return _LONE.sub("?", text).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def print_warnings(lines: Iterable[str]) -> None:
    """Print warnings, one a line, on standard error."""
    for line in lines:
        print(f"warning: {printable(line)}", file=sys.stderr, flush=True)


def shortened(items: Iterable[object], most: int) -> str:
    """The items of a list for a message, with commas; after the first `most` only how many more there are."""
    names = list(map(str, items))
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of equally many cells in columns as wide as their widest cell. Cells stay whole, so that names can be copied."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def is_terminal(stream: TextIO) -> bool:
    """Whether a stream is a terminal that can move its cursor (TERM=dumb cannot)."""
    return stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def parse_settings(pairs: list[str], example: str, option: str = "--set") -> dict[str, Any]:
    """Values of an option NAME=VALUE: `["steps=20", "solver=euler"]` -> `{"steps": 20, "solver": "euler"}`; values are YAML.

    Args:
        example: a NAME=VALUE for the error message.
        option: name of the option.

    Raises:
        UserError: a pair without `=`, or a value that is not YAML.
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise UserError(f"{option} {pair!r} is not NAME=VALUE; write {option} {example}")
        try:
            settings[name.strip()] = local_paths(yaml.safe_load(value))
        except yaml.YAMLError as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"{option} {pair!r} has a value that cannot be read ({reason}); write {option} {example}"
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
    """Progress with rates and ETA: a bar (rich) on a terminal, a line every `every_s` seconds in a log or a pipe.

    Args:
        total: units in all.
        unit: name of a unit, plural ("images").
        done: units finished before this run (a resume); they do not count towards the rates.
        every_s: seconds between lines if the stream is no terminal.
        stream: standard error by default.
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
        self._first = self._last_done = done
        self._start = self._last_time = time.monotonic()
        self._bar: Any = None
        self._every = every_s
        if is_terminal(self._stream):
            self._every = 0.2
            self._start_bar()

    def _start_bar(self) -> None:
        from rich.console import Console  # slow to import: --help must answer at once
        from rich.progress import BarColumn, TextColumn  # slow to import
        from rich.progress import Progress as Bar  # slow to import

        text = TextColumn("{task.description}", markup=False)
        self._bar = Bar(BarColumn(20), text, console=Console(file=self._stream), transient=True)
        self._bar.add_task(self._line("..."), total=self.total, completed=self.done)
        self._bar.start()
        atexit.register(self._bar.stop)  # shows the cursor again after an exception

    def advance(self, count: int, note: str = "") -> None:
        """Count `count` more units; show the progress if enough time has passed."""
        self.done += count
        now = time.monotonic()
        if now - self._last_time < self._every:
            return
        recent = (self.done - self._last_done) / max(now - self._last_time, 1e-9)
        overall = (self.done - self._first) / max(now - self._start, 1e-9)
        eta = format_duration((self.total - self.done) / overall) if overall > 0 else "?"
        self._last_time, self._last_done = now, self.done
        line = self._line(f"{recent:.1f}/s now, {overall:.1f}/s overall, ETA {eta}", note)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self.done, description=line)
        else:
            print(line, file=self._stream, flush=True)

    def close(self, note: str = "") -> None:
        """Print the last line: what was done, in how long, at which rate."""
        if self._bar is not None:
            self._bar.stop()
            atexit.unregister(self._bar.stop)
        seconds = time.monotonic() - self._start
        rate = (self.done - self._first) / max(seconds, 1e-9)
        print(self._line(f"{rate:.1f}/s in {format_duration(seconds)}", note), file=self._stream, flush=True)

    def _line(self, pace: str, note: str = "") -> str:
        """`label: 60/100 images, PACE, NOTE`."""
        label = f"{self.label}: " if self.label else ""
        return f"{label}{self.done}/{self.total} {self.unit}, {pace}{f', {note}' if note else ''}"
