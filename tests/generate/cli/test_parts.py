"""--part and ppgen gather: N parts, in any order and at the same time, make the bytes of one run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rig import fingerprints, make_classifier, make_target

from ppcore.errors import UserError
from ppcore.shards import ShardSet
from ppcore.storage import Store
from ppgen.cli.commands import app
from ppgen.options import ShardOptions
from ppgen.shards import directory

CUT = ["--source", "dummy:build", "--device", "cpu", "--batch-size", "5", "--samples-per-shard", "5"]
SYNTH = ["synth", *CUT, "--classes", "0,2,5", "--per-class", "20", "--workers", "1"]
SHARDS = 12


def call(*args: object) -> int:
    """The command in this process. Returns its exit status; UserError passes through."""
    return app(args=[str(arg) for arg in args], standalone_mode=False) or 0


def start(*args: object) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(Path(__file__).parents[1]), *(p for p in sys.path if p)])
    command = [sys.executable, "-m", "ppgen", *map(str, args)]
    return subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": path},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def commits(out: Path) -> list[int]:
    return sorted(int(path.stem) for path in out.glob("commits/[0-9]*.json"))


@pytest.mark.slow
def test_a_killed_part_and_two_at_once_make_the_bytes_of_one_run(tmp_path: Path) -> None:
    slow = [*SYNTH, "--sampler", "delay=0.15"]
    assert call(*slow, "--out", tmp_path / "whole") == 0
    out = tmp_path / "out"
    killed = start(*slow, "--part", "2/3", "--out", out)
    while not commits(out):
        assert killed.poll() is None
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert 0 < len(commits(out)) < SHARDS / 3
    both = [start(*slow, "--part", part, "--out", out) for part in ("1/3", "3/3")]
    for process in both:
        printed, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert "the same command without --part" in printed.splitlines()[-1]
    assert set(range(0, SHARDS, 3)) | set(range(2, SHARDS, 3)) <= set(commits(out))
    assert not (out / "index.json").exists()
    assert call(*slow, "--part", "2/3", "--out", out) == 0
    assert commits(out) == list(range(SHARDS))
    assert call("gather", out) == 0
    assert fingerprints(out) == fingerprints(tmp_path / "whole")
    assert not list(out.rglob(".tmp-*"))


def test_the_command_without_part_makes_what_is_missing_and_finishes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert call(*SYNTH, "--part", "2/3", "--out", out) == 0
    assert "part 2/3 is made: 4 of 12 shards are in" in capsys.readouterr().out
    assert call("verify", out) == 1
    assert "8 of 12 shards are not made yet: 0, 2, 3" in capsys.readouterr().out
    assert call("status", out) == 0
    assert "20 of 60" in capsys.readouterr().out
    with pytest.raises(UserError, match="8 of 12 shards are missing: 0, 2, 3"):
        call("gather", out)
    with pytest.raises(UserError, match=r"index\.json"):
        ShardSet.open(str(out))
    assert call(*SYNTH, "--out", out) == 0
    assert call(*SYNTH, "--out", tmp_path / "whole") == 0
    assert fingerprints(out) == fingerprints(tmp_path / "whole")
    assert call("verify", out) == 0


@pytest.fixture
def pseudo(tmp_path: Path) -> list[str]:
    classifier, target = make_classifier(tmp_path / "head"), make_target(tmp_path / "target")
    chosen = ["--classifier", str(classifier), "--trust-code", "--target", str(target), "--count", "60"]
    return ["pseudo", *CUT, *chosen, "--workers", "1"]


def test_parts_in_directories_of_their_own_are_gathered(pseudo: list[str], tmp_path: Path) -> None:
    assert call(*pseudo, "--out", tmp_path / "whole") == 0
    places = [tmp_path / f"part{number}" for number in (1, 2, 3)]
    for number in (3, 1):
        assert call(*pseudo, "--part", f"{number}/3", "--out", places[number - 1]) == 0
    out = tmp_path / "out"
    with pytest.raises(UserError, match="4 of 12 shards are missing: 1, 4, 7, 10"):
        call("gather", places[0], places[2], "--out", out)
    assert call(*pseudo, "--part", "2/3", "--out", places[1]) == 0
    assert call("gather", *places, "--out", out) == 0
    assert fingerprints(out) == fingerprints(tmp_path / "whole")
    assert (out / "shards/000000.tar").stat().st_ino == (places[0] / "shards/000000.tar").stat().st_ino
    (out / "shards/000004.tar").unlink()  # as after an interruption
    (out / "index.json").unlink()
    assert call("gather", *places, "--out", out) == 0
    assert fingerprints(out) == fingerprints(tmp_path / "whole")
    with pytest.raises(UserError, match="say with --out"):
        call("gather", *places)


def test_parts_of_other_plans_and_damaged_shards_are_refused(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert call(*SYNTH, "--part", "1/2", "--out", one) == 0
    assert call(*SYNTH, "--seed", "1", "--part", "2/2", "--out", two) == 0
    with pytest.raises(UserError, match="different plans \\(seed 0 -> 1\\)"):
        call("gather", one, two, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    shutil.rmtree(two)
    assert call(*SYNTH, "--part", "2/2", "--out", two) == 0
    tar = two / "shards/000003.tar"
    tar.write_bytes(tar.read_bytes()[:600] + b"x" + tar.read_bytes()[601:])
    with pytest.raises(UserError, match=r"shard 3 of .* is damaged"):
        call("gather", one, two, "--out", tmp_path / "out")
    assert not (tmp_path / "out/index.json").exists()


def test_a_part_adopts_the_automatic_choices_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Machines with other GPUs choose other batch sizes."""
    words = ["synth", "--source", "dummy:build", "--device", "cpu", "--classes", "2", "--per-class", "40"]
    for part, batch in (("1/2", 5), ("2/2", 8)):
        monkeypatch.setattr("ppgen.plan.build.automatic_batch_size", lambda generator, batch=batch: batch)
        assert call(*words, "--workers", "1", "--part", part, "--out", tmp_path / "out") == 0
    assert call("gather", tmp_path / "out") == 0
    monkeypatch.setattr("ppgen.plan.build.automatic_batch_size", lambda generator: 5)
    assert call(*words, "--workers", "1", "--out", tmp_path / "whole") == 0
    assert fingerprints(tmp_path / "out") == fingerprints(tmp_path / "whole")


@pytest.mark.parametrize(
    ("held", "words", "message"),
    [
        (lambda store: directory.hold_part(store, (1, 3)), ["--part", "1/3"], "is making part 1/3 of"),
        (lambda store: directory.hold_part(store, (1, 3)), [], "it holds part-1-of-3"),
        (directory.exclusive, ["--part", "1/3"], "is making all of"),
        (lambda store: directory.hold_part(store, (1, 3)), ["--part", "2/3"], None),
    ],
)
def test_who_may_write_at_the_same_time(
    held: Callable, words: list[str], message: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "_PATIENCE_S", 0.2)
    assert call(*SYNTH, "--part", "3/3", "--out", tmp_path / "out") == 0
    with held(Store(tmp_path / "out")):
        if message is None:
            assert call(*SYNTH, *words, "--out", tmp_path / "out") == 0
        else:
            with pytest.raises(UserError, match=message):
                call(*SYNTH, *words, "--out", tmp_path / "out")


@pytest.mark.parametrize("part", ["0/3", "4/3", "1", "1/0", "-1/3", "1/3/5", "a/b", ""])
def test_what_is_no_part(part: str) -> None:
    with pytest.raises(UserError, match="give I/N with I from 1 to N"):
        ShardOptions(part=part)
