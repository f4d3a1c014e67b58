"""What `ppgen targets` does: the table of known targets, or a look at every image of the ones named."""

from __future__ import annotations

from collections.abc import Sequence

from ppcore.console import EXIT_FAILED, print_table, printable
from ppcore.targets import inspect_target, list_targets, load_target


def show() -> int:
    """Print every target known by name. Returns the exit status, 0."""
    states = list_targets()
    lines = [("name", "classes", "train", "test", "where", "licence", "what it is", "split")]
    for state in states:
        target = state.target
        counts = (f"{target.classes:,}", f"{target.train:,}", f"{target.test:,}")
        lines.append((target.name, *counts, state.where, target.licence, target.title, target.split))
    print_table(lines)
    print("\n".join(f"{state.target.name}: {state.steps}" for state in states if state.steps))
    return 0


def inspect(specs: Sequence[str]) -> int:
    """Print what is in each target. Returns the exit status: 1 where an image cannot be read, else 0.

    Raises:
        UserError: a target that cannot be opened.
    """
    failed = False
    for target in [load_target(spec) for spec in specs]:
        found = inspect_target(target)
        print("\n".join(printable(line) for line in found.describe().splitlines()))
        failed |= bool(found.unreadable)
    return EXIT_FAILED if failed else 0
