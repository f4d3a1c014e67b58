"""Faults of disks and files."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from faultkit.rig import SHARDS, Breaker, Case, mounted, read_only_folder


def fill_disk(case: Case) -> None:
    with mounted(case.out.parent, "size=400k") as remount:
        run = case.run()
        stderr = case.finish(run)
        if case.exits[-1] != 2 or "free some space" not in stderr:
            raise AssertionError(f"exit status {case.exits[-1]}:\n{stderr}")
        case.notes.append(f"full at {run.committed()} of {SHARDS} shards")
        remount("size=64m")
        case.resume()
        keep(case)


def read_only(case: Case) -> None:
    """The folder of the shards becomes read-only during the run. (The whole file system cannot: the lock of the driver is a file
    open for writing, and the kernel then refuses the remount.)"""
    run = case.run()
    case.until(run, max(case.somewhere(), 0.1))
    with read_only_folder(case.out / "shards"):
        stderr = case.finish(run)
    if case.exits[-1] != 2 or "make it writable" not in stderr:
        raise AssertionError(f"exit status {case.exits[-1]}:\n{stderr}")
    case.resume()


def read_only_from_the_start(case: Case) -> None:
    with mounted(case.out.parent, "size=64m") as remount:
        remount("ro")
        stderr = case.finish(case.run())
        if case.exits[-1] != 2 or "error: cannot write" not in stderr:
            raise AssertionError(f"exit status {case.exits[-1]}:\n{stderr}")
        remount("rw")
        case.resume()
        keep(case)


def keep(case: Case) -> None:
    """Copy the directory to another file system before its own is unmounted."""
    copy = case.base / "kept"
    shutil.rmtree(copy, ignore_errors=True)
    case.out = Path(shutil.copytree(case.out, copy))


def damage(change: Callable[[Path, random.Random], None], pattern: str, *options: str) -> Breaker:
    """Damage a finished directory. `verify` must name the shard, and the same command must repair it.

    Args:
        options: of verify; without --repair the run itself must find the damage.
    """

    def break_it(case: Case) -> None:
        case.finish(case.run())
        victim = case.dice.choice(sorted(case.out.glob(pattern)))
        change(victim, case.dice)
        found = ppgen("verify", str(case.out), *options)
        case.exits.append(found.returncode)
        if found.returncode != 1 or f"shard {int(victim.stem)}:" not in found.stdout:
            raise AssertionError(f"verify found nothing in {victim}:\n{found.stdout}")
        case.notes.append(f"shard {int(victim.stem)}")
        case.resume()

    return break_it


def flip(path: Path, dice: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    path.write_bytes(data)


def truncate(path: Path, dice: random.Random) -> None:
    os.truncate(path, dice.randrange(path.stat().st_size))


def ppgen(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "ppgen", *args], capture_output=True, text=True)
