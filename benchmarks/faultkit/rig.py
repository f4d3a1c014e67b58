"""For `faults.py`: a Ray cluster of several raylets on this machine, runs of the command, small file systems, and one case."""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault(
    "RAY_worker_niceness", "0"
)  # Ray's own value, 15, makes workers very slow on a busy machine
from ray.cluster_utils import Cluster

SHARDS, PER_SHARD = 30, 40  # of every run
HERE = Path(__file__).resolve().parents[1]
MISCHIEF = HERE / "faultkit" / "mischief"
_STORE = 80 << 20  # bytes of Ray's object store on every node; only small objects pass through it
_NODES, _CPUS = 2, 2
_BUSY = re.compile("busy", re.IGNORECASE)


class Grid:
    """A head without workers and two nodes with room for two each."""

    def __init__(self) -> None:
        head = {"num_cpus": 0, "object_store_memory": _STORE, "include_dashboard": False}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self.address: str = self._cluster.address
        self._nodes = []
        for _ in range(_NODES):
            self.join()

    def join(self, **environment: str) -> None:
        """Add a node; its processes get these environment variables."""
        given = {"env_vars": environment} if environment else {}
        node = self._cluster.add_node(num_cpus=_CPUS, object_store_memory=_STORE, wait=False, **given)
        self._nodes.append(node)

    def leave(self) -> None:
        """Remove the node that joined last, and add good nodes until there are enough."""
        self._cluster.remove_node(self._nodes.pop())
        while len(self._nodes) < _NODES:
            self.join()

    def kill_raylet(self, dice: random.Random) -> None:
        """Send SIGKILL to the raylet of a random node; its other processes must notice it themselves."""
        node = self._nodes.pop(dice.randrange(len(self._nodes)))
        os.kill(node.all_processes["raylet"][0].process.pid, signal.SIGKILL)
        time.sleep(1.0)
        self._cluster.remove_node(node, allow_graceful=False)  # its other processes

    def close(self) -> None:
        self._cluster.shutdown()


class Run:
    """One `ppgen synth` on the grid, in the background.

    Args:
        pids: folder where its workers write files named by their process numbers.
        settings: of the generator; none changes a byte of the result.
        workers: how many.
        fault: of the machine of the driver, see `mischief/sitecustomize.py`.
    """

    def __init__(
        self,
        out: Path,
        pids: Path,
        address: str,
        settings: dict[str, object] | None = None,
        workers: int = 3,
        fault: str = "",
    ) -> None:
        self._out, self._pids = out, pids
        pids.mkdir(exist_ok=True)
        for old in pids.iterdir():
            old.unlink()
        path = search_path(MISCHIEF) if fault else search_path()
        command = [*self.command(out, SHARDS * PER_SHARD, PER_SHARD), "--engine", "ray", "--address", address]
        for name, value in {"pids": pids, "delay": 0.15, **(settings or {})}.items():
            command += ["--sampler", f"{name}={value}"]
        command += ["--workers", str(workers)]
        self.process = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": path, "FAULT": fault},
            text=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(
                signal.SIGINT, signal.SIG_DFL
            ),  # shells start background jobs without Ctrl-C
        )
        self._printed: list[str] = []
        assert self.process.stderr is not None
        stream = self.process.stderr
        self._reader = threading.Thread(target=lambda: self._printed.extend(stream), daemon=True)
        self._reader.start()

    @staticmethod
    def command(out: Path, samples: int, per_shard: int) -> list[str]:
        """The command line of the plan; options that are added to it change no byte."""
        plan = ["--source", "procedural:build", "--device", "cpu", "--classes", "10", "--seed", "7"]
        plan += [
            "--per-class",
            str(samples // 10),
            "--samples-per-shard",
            str(per_shard),
            "--batch-size",
            "20",
        ]
        return [sys.executable, "-m", "ppgen", "synth", *plan, "--out", str(out)]

    def committed(self) -> int:
        """Commit records so far."""
        return len(list(self._out.glob("commits/*.json")))

    def workers(self) -> list[int]:
        """Processes with a generator, without the driver."""
        found = [int(entry.name) for entry in self._pids.iterdir() if int(entry.name) != self.process.pid]
        return [pid for pid in found if Path("/proc", str(pid)).exists()]

    def until_printed(self, text: str, seconds: float = 180.0) -> None:
        """Wait until the run has printed this text on standard error, or has ended."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            if any(text in line for line in self._printed):
                return
            time.sleep(0.1)

    def wait(self, seconds: float = 180.0) -> tuple[int, str]:
        """Exit status and standard error."""
        status = self.process.wait(timeout=seconds)
        self._reader.join(10)
        return status, "".join(self._printed)


def search_path(*first: Path) -> str:
    """PYTHONPATH for started programs: these folders, the benchmarks, and the import path of this process."""
    return os.pathsep.join([*map(str, first), str(HERE), *(entry for entry in sys.path if entry)])


def digests(out: Path) -> dict[str, str]:
    """sha256 of every tar and parquet file. The other files contain times, hosts, or the fingerprint of the plan, which depends on the
    settings that make a generator slow or sick; `verify` checks them."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.suffix in (".tar", ".parquet")
    }


def can_mount() -> bool:
    return (
        os.geteuid() == 0 and subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0
    )


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Callable[[str], None]]:
    """A file system in memory at `folder`; yields a function that remounts it with other options."""

    def mount(text: str) -> None:
        deadline = time.monotonic() + 20
        while True:
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", text, "ppgen-faults", str(folder)],
                capture_output=True,
                text=True,
            )
            if done.returncode == 0:
                return
            if not _BUSY.search(done.stderr) or time.monotonic() > deadline:
                raise OSError(done.stderr.strip())
            time.sleep(0.005)  # a file is open for writing at this moment

    folder.mkdir(parents=True, exist_ok=True)
    mount(options)
    try:
        yield lambda text: mount(f"remount,{text}")
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def read_only_folder(folder: Path) -> Iterator[None]:
    """Nothing can be written in the folder."""
    for options in (["--bind", str(folder)], ["-o", "remount,bind,ro"]):
        subprocess.run(["mount", *options, str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@dataclass
class Case:
    """One fault: how it is injected, and the results of the runs."""

    fault: str
    break_it: Callable[[Case], None]
    grid: Grid
    base: Path
    dice: random.Random
    out: Path = Path()
    exits: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    given_up: int = 0

    def run(self, settings: dict[str, object] | None = None, workers: int = 3, fault: str = "") -> Run:
        """Start the command in the background."""
        return Run(self.out, self.base / "pids", self.grid.address, settings, workers, fault)

    def until(self, run: Run, share: float) -> None:
        """Wait until a share of the shards is committed, and then a random moment."""
        while run.committed() < share * SHARDS and run.process.poll() is None:
            time.sleep(0.01)
        time.sleep(self.dice.uniform(0, 0.4))
        self.notes.append(f"at {run.committed()} of {SHARDS} shards")

    def somewhere(self) -> float:
        """A random share of the shards."""
        return self.dice.uniform(0.0, 0.8)

    def finish(self, run: Run) -> str:
        """Wait for the end of a run; returns its standard error."""
        status, stderr = run.wait()
        self.exits.append(status)
        self.given_up += stderr.count("FAILED for good") + stderr.count("were not tried")
        if "Traceback" in stderr and status != -signal.SIGKILL:
            raise AssertionError(f"a traceback:\n{stderr}")
        if retried := stderr.count("is tried again"):
            self.notes.append(f"{retried} shards retried")
        return stderr

    def resume(self) -> None:
        """The same command again."""
        stderr = self.finish(self.run())
        if "resuming: " in stderr:
            self.notes.append(stderr.split("resuming: ")[1].split(" are there")[0] + " resumed")


Breaker = Callable[[Case], None]
"""Injects the fault of a case into a run, and returns when the run has ended."""
