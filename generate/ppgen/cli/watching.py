"""What `ppgen status` does once its options are read, and what it prints."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict

from ppcore.storage import Store
from ppgen.journal import read_status, render

_EVERY_S = 5.0


def status(directory: str, price_per_hour: float | None, *, as_json: bool, watch: bool) -> None:
    """Print how far a directory is; with `watch` until no run is at work, on a terminal in place."""
    store = Store(directory)
    while True:
        found = read_status(store, price_per_hour)
        text = json.dumps(asdict(found)) if as_json else render(found)
        if watch and not as_json and sys.stdout.isatty():
            print("\x1b[H\x1b[2J", end="")
        print(text, flush=True)
        if not watch or found.state != "running":
            return
        time.sleep(_EVERY_S)
