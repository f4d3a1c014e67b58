"""Faults of processes: workers, raylets and drivers that are killed or get a signal."""

from __future__ import annotations

import os
import signal

from faultkit.rig import SHARDS, Breaker, Case


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
        stderr = case.finish(run)
        if number != signal.SIGKILL and (
            case.exits[-1] != status or "run the same command again" not in stderr
        ):
            raise AssertionError(f"exit status {case.exits[-1]}:\n{stderr}")
        case.resume()

    return break_it


def plant_orphans(case: Case) -> None:
    """Leave the files that a power cut may leave: incomplete temporary files, and files of shards without a commit record."""
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
