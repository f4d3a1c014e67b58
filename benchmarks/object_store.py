"""Measures resume and verify of many small shards in an object store, with the code of an older commit and with the current code.

    python benchmarks/object_store.py                        # 10,000 shards; bar: resume and verify 5 times as fast as before
    python benchmarks/object_store.py --shards 500 --latency-ms 20

The older code runs from a temporary worktree of this repository. Both run the same two commands: `ppgen synth` on a finished directory,
which finds nothing to do, and `ppgen verify`. The object store is a server in memory on loopback that answers every request after a
latency. The older code makes the directory, so that both can read it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
_PROGRAM = "from ppgen.cli import main; main()"
_CLASSES = 1000
_BAR = 5.0


class Tree:
    """A checkout of the project, and its `ppgen`."""

    def __init__(self, name: str, root: Path) -> None:
        self.name = name
        paths = [root / part for part in ("core", "generate", "train", "pipelines")] + [HERE]
        self._environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
        trusts = "--trust-code" in self._run("synth", "--help").stdout
        self._trust = ["--trust-code"] if trusts else []

    def _run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, *arguments],
            env={**self._environment, **environment},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(
                f"{self.name}: ppgen {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-3000:]}"
            )
        return done

    def synth(self, out: str, shards: int, **environment: str) -> str:
        """Make a directory with one image in each shard; returns the printed text."""
        options = [
            "--source",
            "procedural:build",
            "--device",
            "cpu",
            "--classes",
            str(_CLASSES),
            "--batch-size",
            "1",
        ]
        options += [
            "--per-class",
            str(shards // _CLASSES),
            "--samples-per-shard",
            "1",
            "--workers",
            "1",
            "--threads",
            "1",
        ]
        return self._run("synth", *options, *self._trust, "--out", out, **environment).stdout

    def verify(self, out: str, **environment: str) -> str:
        """Verify the directory; returns the printed text."""
        return self._run("verify", out, **environment).stdout


@contextlib.contextmanager
def worktree(commit: str) -> Iterator[Path]:
    """The repository at the commit, in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "before")
        subprocess.run(
            ["git", "worktree", "add", "--detach", str(tree), commit],
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
        try:
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=True)


@contextlib.contextmanager
def server(folder: Path, latency_ms: float) -> Iterator[dict[str, str]]:
    """An S3 server with the folder's files; yields the environment variables for its clients."""
    command = [
        sys.executable,
        str(HERE / "servers" / "s3.py"),
        "--load",
        str(folder),
        "--latency-ms",
        str(latency_ms),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield {
            "AWS_ENDPOINT_URL": process.stdout.readline().strip(),
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    finally:
        process.terminate()
        process.wait()


def timed(tree: Tree, what: str, shards: int, environment: dict[str, str]) -> tuple[float, str]:
    """(seconds, printed text) of one command."""
    start = time.monotonic()
    if what == "resume":
        printed = tree.synth("s3://bench", shards, **environment)
    else:
        printed = tree.verify("s3://bench", **environment)
    seconds = time.monotonic() - start
    print(f"{what:7} {tree.name:24} {seconds:8.1f} s", flush=True)
    return seconds, printed


def main() -> int:
    """Measure and print. Returns 1 if a ratio is below the bar, else 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", type=int, default=10_000, help=f"a multiple of {_CLASSES}")
    parser.add_argument("--latency-ms", type=float, default=5.0, help="of every request to the server")
    parser.add_argument("--before", default="9a211cb", help="commit to compare with")
    parser.add_argument("--only", choices=("resume", "verify"), help="one of the two")
    args = parser.parse_args()
    shards = max(args.shards // _CLASSES, 1) * _CLASSES
    ratios = {}
    with worktree(args.before) as root, tempfile.TemporaryDirectory() as folder:
        before, now = Tree(f"before ({args.before})", root), Tree("now", ROOT)
        before.synth(folder, shards)
        print(f"{shards} shards of one sample; {args.latency_ms:g} ms latency a request", flush=True)
        with server(Path(folder), args.latency_ms) as environment:
            wanted = (args.only,) if args.only else ("resume", "verify")
            found = {
                tree: [timed(tree, what, shards, environment) for what in wanted] for tree in (now, before)
            }
        for what, (new, said), (old, said_before) in zip(wanted, found[now], found[before], strict=True):
            if said != said_before:
                raise SystemExit(f"{what} says {said!r}, before {said_before!r}")
            ratios[what] = old / new
    for what, ratio in ratios.items():
        print(
            f"{'ok  ' if ratio >= _BAR else 'MISS'} {what}: {ratio:.1f} times as fast as before, at least {_BAR:g}"
        )
    return int(min(ratios.values()) < _BAR)


if __name__ == "__main__":
    raise SystemExit(main())
