"""An experiment that is killed three times finishes, and no finished stage runs twice."""

from __future__ import annotations

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
_KILLS = 3
# Without pseudo samples: to load what samples them takes most of the time of a process.
RECIPE = SMALL.replace("method.name: uda, method.options: {mu: $mu}, data.unlabeled: [similar], ", "")


def records(out: Path) -> dict[str, int]:
    """Finished stage -> when its record was written."""
    return {path.name: path.stat().st_mtime_ns for path in (out / "stages").glob("*.json")}


@pytest.mark.timeout(1500)
def test_killed_three_times(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(RECIPE)
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
    # A kill between a stage's last file and its record leaves it done, and without a record of its time.
    finished = {
        path.parent.name for name in ("index.json", "result.json") for path in out.glob(f"stages/*/{name}")
    }
    assert {Path(name).stem for name in found} <= finished
    assert len(finished) == 7
    assert {name.partition("-")[0] for name in finished} == {
        "letters",
        "pretrain",
        "scratch",
        "both",
    }
    assert "| PP + P-SSL" in done.stdout
