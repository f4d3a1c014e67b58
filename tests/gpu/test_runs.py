"""Whole runs on a GPU: the record names it, samples come out again, deterministic algorithms suffice, scores are in bfloat16."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from faint import call
from tiny_models import save_consistency, save_dit

from ppcore.classifiers import ClassifierSpec, build, save_classifier
from ppcore.storage import Store
from ppgen.shards import read_commit, read_plan
from ppgen.sources.classifier import joining_matrix, realign


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)


def synth(out: Path, source: Path, *more: str) -> None:
    call("synth", "--source", str(source), "--out", str(out), "--device", "cuda", "--seed", "3", *more)


SMALL = ("--per-class", "8", "--batch-size", "16", "--samples-per-shard", "40")


@pytest.mark.parametrize("more", [(), ("--reproducible",)])
def test_a_run_names_its_gpu_and_comes_out_again(
    tmp_path: Path, more: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    source = save_dit(tmp_path / "dit", num_classes=10)
    synth(tmp_path / "out", source, *SMALL, "--sampler", "steps=3", *more)
    platform = read_commit(Store(tmp_path / "out"), 0).platform
    assert platform is not None
    assert platform.gpu == torch.cuda.get_device_name()
    assert platform.driver
    assert platform.cuda == torch.version.cuda
    call("verify", str(tmp_path / "out"), "--source", str(source), "--regenerate", "80", "--device", "cuda")
    assert "80 sampled again, the same" in capsys.readouterr().out


def test_the_cpu_does_not_judge_what_a_gpu_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = save_consistency(tmp_path / "consistency", num_classes=10)
    synth(tmp_path / "out", source, *SMALL, "--dtype", "float32")
    call("verify", str(tmp_path / "out"), "--source", str(source), "--regenerate", "80", "--device", "cpu")
    said = capsys.readouterr().out
    assert "80 of 80 samples were not sampled again" in said
    assert torch.cuda.get_device_name() in said


def test_scores_are_taken_in_bfloat16_and_the_plan_says_so(tmp_path: Path) -> None:
    source = save_consistency(tmp_path / "consistency", num_classes=10)
    names = tuple(str(i) for i in range(10))
    spec = ClassifierSpec("small", names, channels=3, resolution=16)
    save_classifier(tmp_path / "classifier", build("small", 10, 3), spec)
    synth(tmp_path / "out", source, *SMALL, "--classifier", str(tmp_path / "classifier"), "--score")
    score = read_plan(Store(tmp_path / "out")).score
    assert score is not None
    assert score["dtype"] == "bfloat16"


def test_realigning_is_the_same_every_time(cuda: torch.device) -> None:
    places = torch.randint(0, 100, (1000,), generator=torch.Generator().manual_seed(0)).numpy()
    joined = joining_matrix(places, 100).to(cuda)
    p = torch.rand(256, 1000, device=cuda).softmax(dim=1)
    first = realign(p, joined, True)
    assert all(torch.equal(first, realign(p, joined, True)) for _ in range(20))
