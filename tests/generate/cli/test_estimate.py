"""`ppgen plan`: what a command would make and cost, and nothing written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from faint import call, sentence
from rig import SYNTH, make_classifier, make_target, synth

from ppcore.errors import UserError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_dry_run_tells_the_cost_and_writes_nothing(here: Path, capsys) -> None:
    call("plan", "synth", *SYNTH, "--per-class", "100", "--workers", "2", "--price-per-hour", "3600")
    out = capsys.readouterr().out
    assert "3 of 10 classes of dummy-build, 300 images of 16x16x1 as png" in out
    assert "15 shards of at most 20 images, batches of 8 -> runs/synth-dummy-build" in out
    assert "measured on 160 images" in out
    rate, both = map(float, re.findall(r"([\d.]+) images/s a worker on cpu, ([\d.]+) with 2 workers", out)[0])
    assert both == pytest.approx(2 * rate, rel=0.01)
    cost = float(re.findall(r"worker-hours, ([\d.]+) at 3600 an hour", out)[0])
    assert cost == pytest.approx(300 / rate, abs=0.01)
    assert not list(here.iterdir())


def test_estimated_bytes_are_those_of_the_directory(here: Path, capsys) -> None:
    call("plan", "synth", *SYNTH, "--per-class", "100")
    number, unit = re.findall(r"about ([\d.]+) (\w+) in all", capsys.readouterr().out)[0]
    guess = float(number) * {"kB": 1e3, "MB": 1e6}[unit]
    call("synth", *SYNTH, "--per-class", "100", "--out", "out")
    found = sum(p.stat().st_size for p in (here / "out").rglob("*") if p.suffix in (".tar", ".parquet"))
    assert guess == pytest.approx(found, rel=0.2)  # small shards are padded to 10 kB


def test_a_dry_run_of_pseudo_without_calibration(here: Path, capsys) -> None:
    target, classifier = make_target(here / "flowers"), make_classifier(here / "classifier")
    before = sorted(here.rglob("*"))
    args = [
        "--source",
        "dummy:build",
        "--target",
        str(target),
        "--classifier",
        str(classifier),
        "--device",
        "cpu",
        "--trust-code",
    ]
    call("plan", "pseudo", *args, "--count", "70", "--no-calibrate")
    out = capsys.readouterr().out
    assert "soft conditions from 15 images of flowers over 10 classes" in out
    assert "a rough guess" in out
    assert "images/s" not in out
    call("plan", "pseudo", *args, "--count", "70")
    assert "images/s a worker" in capsys.readouterr().out
    assert sorted(here.rglob("*")) == before


def test_a_dry_run_on_a_begun_directory_counts_what_is_left(tmp_path: Path, capsys) -> None:
    copy = tmp_path / "out"
    assert synth(copy) == 0
    (copy / "commits/000001.json").unlink()
    call("plan", "synth", *SYNTH, "--per-class", "25", "--out", str(copy), "--no-calibrate")
    assert "55 images are made already, 20 are missing" in capsys.readouterr().out
    with pytest.raises(UserError, match="per_class 25 -> 26"):
        call("plan", "synth", *SYNTH, "--per-class", "26", "--out", str(copy), "--no-calibrate")


@pytest.fixture
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def test_a_kit_is_planned_without_its_weights_and_without_network(here: Path, no_hub: None, capsys) -> None:
    args = ["--classes", "1000", "--per-class", "1300", "--price-per-hour", "2"]
    call("plan", "synth", *args, "--source", "var-d16-256")
    out, err = capsys.readouterr()
    assert "1000 of 1000 classes of var-d16-256, 1300000 images of 256x256x3 as jpg" in out
    assert "about 79.3 GB in all" in out
    assert "licence MIT, revision 367386cbd701447557c18f0ba8fb3ad7d761ba75" in out
    assert "990.7 GFLOP an image with the default settings: at least 0.46 GPU-hours, 0.92 on one H100" in out
    assert "the weights are not on this machine" in out
    assert "note" not in err
    assert not list(here.iterdir())


def test_the_default_source_is_not_for_products_and_says_so(here: Path, no_hub: None, capsys) -> None:
    call("plan", "synth", "--per-class", "10")
    assert capsys.readouterr().err.splitlines() == [
        "note: dit-xl-2-256 is under CC-BY-NC-4.0, which forbids products; var-d16-256 (MIT) may be used for them"
    ]


@pytest.mark.parametrize("args", [["--per-class", "0"], ["--price-per-hour", "-1"], ["--workers", "0"]])
def test_wrong_dry_runs(here: Path, args: list[str]) -> None:
    with pytest.raises(UserError, match=f"{args[0]} is {args[1]}") as caught:
        call("plan", "synth", *SYNTH, *args)
    assert sentence(caught.value)
