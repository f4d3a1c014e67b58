"""Injected faults: what a run of ppgen on a Ray cluster of several raylets loses when things break. The answer must be nothing.

    python benchmarks/faults.py               29 faults, about ten minutes on two idle cores
    python benchmarks/faults.py --moments 1   one of each kind

Every case is one shard directory: a run by the command line, one fault at a random moment, where needed the same command again,
and then a comparison with an undisturbed run: bytes, `ppgen verify`, samples lost or there twice, files left over. Exit status 1
on any loss. Disk and read-only cases mount small file systems and need root; without it they are skipped with a message.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from fault_rig import PER_SHARD, SHARDS, Breaker, Case, Grid, Run, can_mount, digests, mounted

from ppcore.storage import Store
from ppgen.shards.state import read_plan
from ppgen.upkeep.verify import verify_directory

# ---- the faults


def kill_worker(case: Case) -> None:
    run = case.run()
    case.until(run, case.somewhere())
    victims = run.workers()
    if victims:
        os.kill(case.dice.choice(victims), signal.SIGKILL)
    case.finish(run)


def kill_raylet(case: Case) -> None:
    run = case.run()
    case.until(run, case.somewhere())
    case.grid.kill_raylet(case.dice)
    case.grid.join()
    case.finish(run)


def signal_driver(number: signal.Signals, status: int) -> Breaker:
    def break_it(case: Case) -> None:
        run = case.run()
        case.until(run, case.somewhere())
        run.process.send_signal(number)
        told = case.finish(run)
        if number != signal.SIGKILL and (
            case.exits[-1] != status or "run the same command again" not in told
        ):
            raise AssertionError(f"exit status {case.exits[-1]}:\n{told}")
        case.resume()

    return break_it


def fill_disk(case: Case) -> None:
    with mounted(case.out.parent, "size=400k") as remount:
        run = case.run()
        told = case.finish(run)
        if case.exits[-1] != 2 or "free some space" not in told:
            raise AssertionError(f"exit status {case.exits[-1]}:\n{told}")
        case.notes.append(f"full at {run.committed()} of {SHARDS} shards")
        remount("size=64m")
        case.resume()
        keep(case)


def read_only(case: Case) -> None:
    """The file system turns read-only under the run."""
    with mounted(case.out.parent, "size=64m") as remount:
        run = case.run()
        case.until(run, case.somewhere())
        remount("ro")
        told = case.finish(run)
        if case.exits[-1] != 2 or "make it writable" not in told:
            raise AssertionError(f"exit status {case.exits[-1]}:\n{told}")
        remount("rw")
        case.resume()
        keep(case)


def read_only_from_the_start(case: Case) -> None:
    with mounted(case.out.parent, "size=64m") as remount:
        remount("ro")
        told = case.finish(case.run())
        if case.exits[-1] != 2 or "error: cannot write" not in told:
            raise AssertionError(f"exit status {case.exits[-1]}:\n{told}")
        remount("rw")
        case.resume()
        keep(case)


def keep(case: Case) -> None:
    """Copy the directory off the file system that is about to be unmounted."""
    copy = case.base / "kept"
    shutil.rmtree(copy, ignore_errors=True)
    case.out = Path(shutil.copytree(case.out, copy))


def damage(change: Callable[[Path, random.Random], None], pattern: str, *options: str) -> Breaker:
    """A finished directory is damaged; verify must name the shard, and the same command makes it whole again.

    Args:
        options: of verify; without --repair the run itself must see the damage.
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


def plant_orphans(case: Case) -> None:
    """What a machine that lost power may leave: torn temporary files, and files of shards that were never committed."""
    run = case.run()
    case.until(run, 0.3)
    run.process.kill()
    case.finish(run)
    open_shards = [n for n in range(SHARDS) if not (case.out / f"commits/{n:06d}.json").exists()]
    for name in (
        f"shards/{open_shards[0]:06d}.tar",
        f"meta/{open_shards[-1]:06d}.parquet",
        "shards/.tmp-0-000001.tar",
    ):
        (case.out / name).write_bytes(b"half of a file")
    case.resume()


# ---- the verdict


@dataclass
class Verdict:
    """What a case cost: nothing, if all is zero and true."""

    lost: int
    duplicated: int
    same_bytes: bool
    clean: bool

    @property
    def ok(self) -> bool:
        return self.lost == self.duplicated == 0 and self.same_bytes and self.clean


def judge(case: Case, undisturbed: dict[str, str]) -> Verdict:
    """Compare a directory with the undisturbed one: keys in the manifest, bytes, verify, files left over."""
    store = Store(str(case.out))
    keys = pq.read_table(case.out / "manifest.parquet", columns=["key"]).column("key").to_pylist()
    planned = {f"{index:09d}" for index in range(SHARDS * PER_SHARD)}
    return Verdict(
        lost=len(planned - set(keys)),
        duplicated=len(keys) - len(set(keys)),
        same_bytes=digests(case.out) == undisturbed,  # a file too many would differ, too
        clean=verify_directory(store, read_plan(store)).ok and case.exits[-1] == 0,
    )


def ppgen(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "ppgen", *args], capture_output=True, text=True)


def catalogue(moments: int) -> list[tuple[str, Breaker, bool]]:
    """Name, breaker and whether it mounts something; `moments` random moments of each of the first three."""
    often: list[tuple[str, Breaker, bool]] = [
        ("SIGKILL of a worker", kill_worker, False),
        ("SIGKILL of a raylet", kill_raylet, False),
        ("SIGKILL of the driver", signal_driver(signal.SIGKILL, -9), False),
    ]
    twice: list[tuple[str, Breaker, bool]] = [
        ("SIGTERM", signal_driver(signal.SIGTERM, 143), False),
        ("disk full", fill_disk, True),
        ("disk turns read-only", read_only, True),
        ("corrupted tar", damage(flip, "shards/*.tar", "--repair"), False),
        ("truncated tar", damage(truncate, "shards/*.tar"), False),
    ]
    once: list[tuple[str, Breaker, bool]] = [
        ("Ctrl-C", signal_driver(signal.SIGINT, 130), False),
        ("read-only from the start", read_only_from_the_start, True),
        ("corrupted parquet", damage(flip, "meta/*.parquet", "--repair"), False),
        ("truncated parquet", damage(truncate, "meta/*.parquet"), False),
        ("torn files of a power cut", plant_orphans, False),
    ]
    return often * moments + twice * min(2, moments) + once


def main() -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--moments", type=int, default=5, help="random moments of each SIGKILL")
    options.add_argument("--seed", type=int, default=int(time.time()), help="of the moments")
    chosen = options.parse_args()
    dice = random.Random(chosen.seed)
    base = Path(tempfile.mkdtemp(prefix="ppgen-faults-"))
    grid = Grid()
    print(f"{_NODES_TEXT}; {SHARDS} shards of {PER_SHARD}; --seed {chosen.seed}", flush=True)
    injected, bad = 0, []
    try:
        undisturbed_run = Run(
            base / "undisturbed", base / "pids", grid.address, SHARDS * PER_SHARD, PER_SHARD
        )
        status, told = undisturbed_run.wait()
        assert status == 0, told
        undisturbed = digests(base / "undisturbed")
        print(_HEAD)
        for number, (name, breaker, mounts) in enumerate(catalogue(chosen.moments), 1):
            if mounts and not can_mount():
                print(f"| {number} | {name} | skipped: mounting needs root | | | | | |")
                continue
            case = Case(name, breaker, grid, base, dice, base / str(number) / "out")
            case.out.parent.mkdir()
            try:
                breaker(case)
                verdict = judge(case, undisturbed)
            except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
                verdict = Verdict(-1, -1, False, False)
                case.notes.append(f"{type(error).__name__}: {error}")
            injected += 1
            bad += [] if verdict.ok else [number]
            print(line(number, case, verdict), flush=True)
            if verdict.ok:
                shutil.rmtree(case.out, ignore_errors=True)
    finally:
        grid.close()
    print(
        f"{injected} faults injected, {len(bad)} bad{': cases ' + str(bad) + ' in ' + str(base) if bad else ''}"
    )
    if not bad:
        shutil.rmtree(base)
    return 1 if bad else 0


_NODES_TEXT = "1 head and 2 nodes with 2 CPUs each, 3 workers"
_HEAD = """\
| # | fault | moment and course | exit statuses | lost | twice | bytes as undisturbed | verify clean |
|---|---|---|---|---|---|---|---|"""


def line(number: int, case: Case, verdict: Verdict) -> str:
    """One row of the table."""
    said = {True: "yes", False: "NO"}
    return (
        f"| {number} | {case.fault} | {', '.join(case.notes)} | {', '.join(map(str, case.exits))} | {verdict.lost} | "
        f"{verdict.duplicated} | {said[verdict.same_bytes]} | {said[verdict.clean]} |"
    )


if __name__ == "__main__":
    sys.exit(main())
