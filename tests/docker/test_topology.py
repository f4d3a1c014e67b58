"""compose.yaml's services as plain processes on loopback: its commands and its environment, with other names and ports."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from files import services, tool

from ppcore.shards import ShardSet

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        os.getloadavg()[0] > 4 * len(os.sched_getaffinity(0)),
        reason="the machine is too busy for Ray, whose parts give up when they are not up within half a minute",
    ),
]
pytest.importorskip("ray")
pytest.importorskip("s3fs")
moto = pytest.importorskip("moto.server")

SMALL = {
    "STORE_PASSWORD": "hunter2hunter2",
    "RAY_TOKEN": "correct-horse-battery-staple",
    "PER_CLASS": "2",
    "PER_IMAGE": "2",
    "PRETRAIN_STEPS": "2",
    "STEPS": "2",
}


def _ports(count: int) -> list[int]:
    """That are free now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    numbers = [int(s.getsockname()[1]) for s in sockets]
    for s in sockets:
        s.close()
    return numbers


class Stage:
    """Where the services are played."""

    def __init__(self, folder: Path) -> None:
        store, self.head, self.dashboard = _ports(3)
        self.services = services(SMALL)
        self.folder = folder
        self.short = tempfile.mkdtemp(prefix="pp-", dir="/tmp")  # Ray's sockets have long names
        self.store = moto.ThreadedMotoServer("127.0.0.1", store, verbose=False)
        self.names = {
            "http://store:9000": f"http://127.0.0.1:{store}",
            "http://head:8265": f"http://127.0.0.1:{self.dashboard}",
            "head:6379": f"127.0.0.1:{self.head}",
            "--port=6379": f"--port={self.head} --dashboard-port={self.dashboard} --node-ip-address=127.0.0.1",
            "--dashboard-host=0.0.0.0": "--dashboard-host=127.0.0.1",
            "--block": "--block --object-store-memory=80000000 --dashboard-agent-listen-port={}",
        }

    def command(self, name: str) -> list[str]:
        """Of a service, a worker's with a node of its own."""
        words: list[str] = []
        for word in self.services[name]["command"]:
            for old, new in self.names.items():
                word = word.replace(old, new)
            split = name in ("head", "worker")
            words += shlex.split(word.format(*_ports(1))) if split else [word]
        program = Path(tool(words[0]))
        return [str(program) if program.exists() else words[0], *words[1:]]

    def environment(self, name: str) -> dict[str, str]:
        """Of a service, on top of ours."""
        own = {key: self.names.get(value, value) for key, value in self.services[name]["environment"].items()}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {
            **os.environ,
            **own,
            "PATH": path,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TMPDIR": self.short,
        }

    def once(self, name: str) -> str:
        """Play a service that ends; what it printed."""
        done = subprocess.run(
            self.command(name),
            cwd=self.folder,
            env=self.environment(name),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-5000:]
        return done.stdout

    @contextmanager
    def running(self, name: str, log: str) -> Iterator[subprocess.Popen[bytes]]:
        """A Ray service that is up and goes on until the block ends; started again as often as its `restart` says."""
        for _ in range(6 if self.services[name].get("restart") == "on-failure" else 1):
            process = self._start(name, self.folder / log)
            if process.poll() is None:
                break
        assert process.poll() is None, (self.folder / log).read_text()[-3000:]
        try:
            yield process
        finally:
            process.terminate()
            process.wait(90)

    def _start(self, name: str, log: Path) -> subprocess.Popen[bytes]:
        """Until it is up, or has ended."""
        with log.open("wb") as handle:
            process = subprocess.Popen(
                self.command(name), cwd=self.folder, env=self.environment(name), stdout=handle, stderr=handle
            )
        while process.poll() is None and b"Ray runtime started" not in log.read_bytes():
            time.sleep(0.5)
        return process

    def wait_healthy(self, name: str, process: subprocess.Popen[bytes]) -> None:
        """Until the service's own health check is content."""
        _, _, *arguments = self.services[name]["healthcheck"]["test"]
        check = [word.replace("8265", str(self.dashboard)) for word in arguments]
        for _ in range(120):
            if subprocess.run([sys.executable, *check], capture_output=True).returncode == 0:
                return
            assert process.poll() is None, (self.folder / f"{name}.log").read_text()[-3000:]
            time.sleep(1)
        raise AssertionError((self.folder / f"{name}.log").read_text()[-3000:])


def test_the_demo_goes_through_all_services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(tmp_path)
    stage.store.start()
    try:
        stage.once("bucket")
        with stage.running("head", "head.log") as head:
            stage.wait_healthy("head", head)
            with stage.running("worker", "worker-1.log"), stage.running("worker", "worker-2.log"):
                printed = stage.once("generate")
        assert printed.count("all as planned") == 2
        stage.once("train")
        for name, value in stage.environment("train").items():
            monkeypatch.setenv(name, value)
        shards = ShardSet.open("s3://shards/synth-letters", kind="synth")
        assert shards.samples == 2 * len(shards.class_names)
        assert ShardSet.open("s3://shards/pseudo-letters-digits", kind="pseudo").samples == 40
    finally:
        stage.store.stop()
        shutil.rmtree(stage.short, ignore_errors=True)
    figures = json.loads((tmp_path / "runs/figures.json").read_text())
    assert figures["images"] == 900
