"""Injects faults into runs of ppgen on a Ray cluster of several raylets and checks that no run loses a sample.

    python benchmarks/faults.py               47 faults, about 20 minutes on two idle cores
    python benchmarks/faults.py --moments 1   one of each kind

Every case is one shard directory. The command runs, one fault happens at a random moment, and the command is repeated if the run
ended. The result is compared with an undisturbed run: bytes, `ppgen verify`, lost and duplicated samples, files left over. The exit
status is 1 if anything differs. Disk and read-only cases mount small file systems and need root; without it they are skipped.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from faultkit import files, machines, processes
from faultkit.rig import PER_SHARD, SHARDS, Breaker, Case, Grid, Run, can_mount, digests

from ppcore.storage import Store
from ppgen.shards.directory import read_plan
from ppgen.upkeep.verify import verify_directory

# ---- the verdict


@dataclass
class Verdict:
    """The result of a case: passed if all counts are zero and both checks are true."""

    lost: int
    duplicated: int
    given_up: int
    same_bytes: bool
    clean: bool

    @property
    def ok(self) -> bool:
        return self.lost == self.duplicated == self.given_up == 0 and self.same_bytes and self.clean


def judge(case: Case, undisturbed: dict[str, str]) -> Verdict:
    """Compare the directory of a case with the undisturbed one."""
    store = Store(str(case.out))
    keys = pq.read_table(case.out / "manifest.parquet", columns=["key"]).column("key").to_pylist()
    planned = {f"{index:09d}" for index in range(SHARDS * PER_SHARD)}
    return Verdict(
        lost=len(planned - set(keys)),
        duplicated=len(keys) - len(set(keys)),
        given_up=case.given_up,  # must be 0: in these runs no shard is the cause of a failure
        same_bytes=digests(case.out) == undisturbed,  # also False if there is an additional file
        clean=verify_directory(store, read_plan(store)).ok and case.exits[-1] == 0,
    )


def catalogue(moments: int) -> list[tuple[str, Breaker, bool]]:
    """(name, breaker, whether it mounts a file system) of every case; the first three faults happen at `moments` moments each."""
    often: list[tuple[str, Breaker, bool]] = [
        ("SIGKILL of a worker", processes.kill_worker, False),
        ("SIGKILL of a raylet", processes.kill_raylet, False),
        ("SIGKILL of the driver", processes.signal_driver(signal.SIGKILL, -9), False),
    ]
    twice: list[tuple[str, Breaker, bool]] = [
        ("SIGTERM", processes.signal_driver(signal.SIGTERM, 143), False),
        ("disk full", files.fill_disk, True),
        ("disk turns read-only", files.read_only, True),
        ("corrupted tar", files.damage(files.flip, "shards/*.tar", "--repair"), False),
        ("truncated tar", files.damage(files.truncate, "shards/*.tar"), False),
    ]
    twice += [
        ("late node without weights", machines.late_bad_node, False),
        ("disk full on one node", machines.full_disk_of_a_node, False),
        ("two drivers at once", machines.two_drivers, False),
    ]
    once: list[tuple[str, Breaker, bool]] = [
        ("Ctrl-C", processes.signal_driver(signal.SIGINT, 130), False),
        ("read-only from the start", files.read_only_from_the_start, True),
        ("corrupted parquet", files.damage(files.flip, "meta/*.parquet", "--repair"), False),
        ("truncated parquet", files.damage(files.truncate, "meta/*.parquet"), False),
        ("locks refused, as by NFS", machines.refused_locks, False),
        ("two drivers, locks refused", machines.two_drivers_without_locks, False),
        ("driver a week behind", machines.skewed_driver, False),
        ("node a day ahead", machines.skewed_node(86_400), False),
        ("node an hour behind", machines.skewed_node(-3600), False),
        ("pre-emption storm", machines.storm(20.0, 2.0), False),
        ("pre-emption storm, three times as fast", machines.storm(7.0, 0.7), False),
        ("sick worker", machines.sick_worker(0, "no such tensor"), False),
        ("sick worker, from its fourth shard on", machines.sick_worker(6, "no such tensor"), False),
        ("CUDA errors of one worker", machines.sick_worker(0, "CUDA error, an illegal memory access"), False),
        ("CUDA errors, late", machines.sick_worker(6, "CUDA error, unspecified launch failure"), False),
        ("torn files of a power cut", processes.plant_orphans, False),
    ]
    return often * moments + twice * min(2, moments) + once


def main() -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument(
        "--moments", type=int, default=5, help="how many cases of each SIGKILL, at random moments"
    )
    options.add_argument("--only", default="", help="run only the faults whose name contains this text")
    options.add_argument("--seed", type=int, default=int(time.time()), help="seed of the random moments")
    chosen = options.parse_args()
    dice = random.Random(chosen.seed)
    base = Path(tempfile.mkdtemp(prefix="ppgen-faults-"))
    grid = Grid()
    print(f"{_NODES_TEXT}; {SHARDS} shards of {PER_SHARD}; --seed {chosen.seed}", flush=True)
    injected, bad = 0, []
    try:
        undisturbed_run = Run(base / "undisturbed", base / "pids", grid.address)
        status, stderr = undisturbed_run.wait()
        assert status == 0, stderr
        undisturbed = digests(base / "undisturbed")
        print(_HEAD)
        for number, (name, breaker, mounts) in enumerate(catalogue(chosen.moments), 1):
            if chosen.only not in name:
                continue
            if mounts and not can_mount():
                print(f"| {number} | {name} | skipped: mounting needs root | | | | | | |")
                continue
            case = Case(name, breaker, grid, base, dice, base / str(number) / "out")
            case.out.parent.mkdir()
            try:
                breaker(case)
                verdict = judge(case, undisturbed)
            except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
                verdict = Verdict(-1, -1, case.given_up, False, False)
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
| # | fault | moment and course | exit statuses | lost | twice | given up | bytes as undisturbed | verify clean |
|---|---|---|---|---|---|---|---|---|"""


def line(number: int, case: Case, verdict: Verdict) -> str:
    """One row of the table."""
    word = {True: "yes", False: "NO"}
    return (
        f"| {number} | {case.fault} | {', '.join(case.notes)} | {', '.join(map(str, case.exits))} | {verdict.lost} | "
        f"{verdict.duplicated} | {verdict.given_up} | {word[verdict.same_bytes]} | {word[verdict.clean]} |"
    )


if __name__ == "__main__":
    sys.exit(main())
