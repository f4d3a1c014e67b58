from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rig import make_classifier, make_target, stored

from ppcore.console import parse_settings
from ppcore.errors import UserError
from ppgen.cli import commands
from ppgen.cli.commands import app

SYNTH = ["synth", "--source", "dummy:build", "--device", "cpu"]


def call(*args: str) -> None:
    """The command in this process; UserError passes through."""
    app(args=list(args), standalone_mode=False)


def start(*args: str, cwd: Path) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(Path(__file__).parents[1]), *(p for p in sys.path if p)])
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-m", "ppgen", *args]
    return subprocess.Popen(
        command, cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with nothing written in it yet."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


def test_the_next_command_trains_on_the_images_that_the_samples_were_made_for(
    here: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "generate", lambda options: 0)
    chosen = ["--labels-per-class", "2", "--label-seed", "3"]
    call("pseudo", "--source", "letters", "--target", "train=my cars/*.parquet", *chosen)
    said = capsys.readouterr().err
    assert "pptrain run --target 'train=my cars/*.parquet' --labels-per-class 2 --seed 3\n" in said
    call("pseudo", "--source", "letters", "--target", "cars", "--seed", "3")
    assert "pptrain run --target cars\n" in capsys.readouterr().err
    call("pseudo", "--source", "letters", "--target", "cars", "--out", "s3://bucket/x")
    assert "pptrain run --target cars --unlabeled s3://bucket/x\n" in capsys.readouterr().err
    call("pseudo", "--source", "letters", "--target", "cars", "--out", "runs/pseudo-more/")
    assert "pptrain run --target cars\n" in capsys.readouterr().err
    call("synth", "--source", "letters", "--out", "letters")
    assert "pptrain run --shards letters\n" in capsys.readouterr().err


def test_default_directories(here: Path, capsys) -> None:
    target, classifier = make_target(here / "flowers"), make_classifier(here / "classifier")
    call(*SYNTH, "--classes", "2", "--per-class", "3")
    assert "runs/synth-dummy-build" in capsys.readouterr().out
    call(
        "pseudo",
        "--source",
        "dummy:build",
        "--target",
        str(target),
        "--classifier",
        str(classifier),
        "--trust-code",
        "--count",
        "7",
    )
    assert stored(here / "runs/synth-dummy-build")[1].samples == 6
    assert stored(here / "runs/pseudo-dummy-build-flowers")[1].samples == 7
    call("verify", "runs/synth-dummy-build", "--regenerate", "3", "--source", "dummy:build", "--trust-code")
    assert "all as planned; 3 sampled again, the same" in capsys.readouterr().out


def test_set_values_are_typed() -> None:
    assert parse_settings(
        ["steps=20", "guidance=1.5", "solver=euler", "interval=[0.1, 0.8]"], "steps=20"
    ) == {
        "steps": 20,
        "guidance": 1.5,
        "solver": "euler",
        "interval": [0.1, 0.8],
    }
    with pytest.raises(UserError, match="NAME=VALUE"):
        parse_settings(["steps"], "steps=20")


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["synth", "--source", "nothing"], "unknown source"),
        (["synth", "--source", "no_module:build"], "cannot import"),
        ([*SYNTH, "--classes", "11"], "the source has 10"),
        ([*SYNTH, "--classes", "llama"], "unknown class"),
        ([*SYNTH, "--per-class", "0"], "--per-class is 0"),
        ([*SYNTH, "--batch-size", "-1"], "--batch-size is -1"),
        ([*SYNTH, "--samples-per-shard", "0"], "--samples-per-shard is 0"),
        ([*SYNTH, "--workers", "0"], "--workers is 0"),
        ([*SYNTH, "--threads", "0"], "--threads is 0"),
        ([*SYNTH, "--format", "gif"], "unknown --format"),
        ([*SYNTH, "--engine", "magic"], "unknown engine"),
        ([*SYNTH, "--device", "abacus"], "unknown device"),
        ([*SYNTH, "--sampler", "colour=red"], "does not take the sampling option"),
        ([*SYNTH, "--score"], "no classifier of its own"),
        ([*SYNTH, "--out", "taken"], "was not made by ppgen"),
        ([*SYNTH, "--out", "taken/file"], "is a file"),
        ([*SYNTH, "--out", "taken/file/below"], "not a writable directory"),
        (["verify", "taken"], "is no shard directory"),
        (["verify", "missing"], "is no shard directory"),
    ],
)
def test_wrong_synth_requests_write_nothing(here: Path, args: list[str], told: str) -> None:
    (here / "taken").mkdir()
    (here / "taken" / "file").write_text("mine")
    with pytest.raises(UserError, match=re.escape(told)) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in here.rglob("*")) == ["file", "taken"]


def test_a_preview_is_one_picture_and_no_shards(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(*SYNTH, "--preview", "3", "--out", "made")
    assert "preview: " in capsys.readouterr().out
    assert [p.name for p in here.rglob("*")] == ["made-preview.png"]
    with Image.open(here / "made-preview.png") as picture:
        shown = np.asarray(picture.convert("L"))
    rows = np.split(shown[:, 220:], 3)
    assert len({row.tobytes() for row in rows}) == 3


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--target", "nowhere"], "unknown target"),
        (["--target", "empty"], "has no images"),
        (["--target", "broken"], "is damaged"),
        (["--target", "good", "--labels-per-class", "50"], "only"),
        (["--target", "good", "--labels-per-class", "0"], "--labels-per-class is 0"),
        (["--target", "good", "--temperature", "0"], "--temperature is 0"),
        (["--target", "good", "--temperature", "nan"], "--temperature is nan"),
        (["--target", "good", "--top-k", "0"], "--top-k is 0"),
        (["--target", "good", "--count", "-5"], "--count is -5"),
        (["--target", "good", "--count", "5", "--per-image", "2"], "--per-image and --count are both given"),
        (["--target", "good", "--condition", "hard"], "unknown --condition"),
        (["--target", "good", "--classifier", "other"], "has 4 classes"),
        (["--target", "good", "--classifier", "nothing"], "unknown classifier"),
    ],
)
def test_wrong_pseudo_requests_write_nothing(here: Path, args: list[str], told: str) -> None:
    make_target(here / "good")
    make_target(here / "broken", damaged=True)
    (here / "empty").mkdir()
    make_classifier(here / "classifier")
    make_classifier(here / "other", num_classes=4)
    before = sorted(here.rglob("*"))
    default = [] if "--classifier" in args else ["--classifier", "classifier"]
    with pytest.raises(UserError, match=re.escape(told)) as caught:
        call("pseudo", "--source", "dummy:build", "--trust-code", *default, *args, "--out", "made")
    assert "\n" not in str(caught.value)
    assert sorted(here.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
def test_a_read_only_disk_is_refused(here: Path) -> None:
    (here / "disk").mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro", "none", str(here / "disk")], capture_output=True
    )
    if mount.returncode:
        pytest.skip("mounting is not permitted here")
    try:
        with pytest.raises(UserError, match=r"disk is not a writable directory"):
            call(*SYNTH, "--classes", "2", "--per-class", "3", "--out", "disk/out")
    finally:
        subprocess.run(["umount", str(here / "disk")], check=True)


def test_exit_status_and_one_sentence(here: Path) -> None:
    process = start(*SYNTH, "--classes", "11", cwd=here)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err == "error: --classes asks for 11 classes, the source has 10; give at most 10\n"


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_stop_cleanly_and_say_how_to_resume(here: Path, signum: signal.Signals, status: int) -> None:
    args = [*SYNTH, "--per-class", "20", "--batch-size", "10", "--samples-per-shard", "20", "--out", "out"]
    process = start(*args, "--sampler", "delay=0.2", cwd=here)
    while not (here / "out/commits/000000.json").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signum)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert "run the same command again to resume" in err
    assert "Traceback" not in err
    assert not list(here.rglob(".tmp-*"))


def test_help_is_quick_and_light() -> None:
    code = "import sys, ppgen.cli.commands; print([m for m in ('torch', 'diffusers', 'ray', 'pyarrow') if m in sys.modules])"
    path = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=True,
    )
    assert done.stdout.strip() == "[]"
