"""An experiment that is killed again and again comes to its end, and no finished stage is done twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from recipes import SMALL

pytestmark = pytest.mark.slow
_KILLS = 5


def records(out: Path) -> dict[str, int]:
    """Finished stage -> when its record was written."""
    return {path.name: path.stat().st_mtime_ns for path in (out / "stages").glob("*.json")}


@pytest.mark.timeout(1500)
def test_killed_five_times(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    out, rng = tmp_path / "out", random.Random(0)
    command = [
        sys.executable,
        "-m",
        "ppflow",
        "run",
        str(tmp_path / "small.yaml"),
        "--out",
        str(out),
        "--jobs",
        "2",
    ]
    seen: dict[str, int] = {}
    for _ in range(_KILLS):
        before = len(records(out))
        started = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + 200
        while len(records(out)) <= before and started.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        time.sleep(rng.random() * 3)
        if started.poll() is None:
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()
        found = records(out)
        assert {name: found[name] for name in seen} == seen
        seen = found
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = records(out)
    assert {name: found[name] for name in seen} == seen
    assert len(found) == 9
    assert {json.loads(path.read_text())["stage"] for path in (out / "stages").glob("*.json")} == {
        "letters", "similar", "pretrain", "scratch", "both",
    }  # fmt: skip
    assert "| PP + P-SSL" in done.stdout
