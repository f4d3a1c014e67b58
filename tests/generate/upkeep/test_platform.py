"""Samples are made again only on what made them; what was made elsewhere is counted and no fault."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from faint import call
from rig import flip, recommit, stored, synth, synth_job, worker_of

from ppcore.storage import Store
from ppgen.options import ShardOptions
from ppgen.shards.commit import read_commit
from ppgen.shards.worker import Worker
from ppgen.upkeep.verify import regenerate_samples, verify_directory


def rewrite(out: Path, shard: int, **platform: Any) -> None:
    path = out / f"commits/{shard:06d}.json"
    record = json.loads(path.read_text())
    record["platform"].update(platform)
    path.write_text(json.dumps(record))


def test_every_shard_says_what_it_was_made_on(sound: Path) -> None:
    worker = worker_of(sound)
    for shard in range(4):
        found = read_commit(Store(sound), shard).platform
        assert found is not None
        assert found == worker.platform
    worker.close()


def test_shards_of_another_platform_are_left_out_with_a_sentence(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(copy, 1, gpu="NVIDIA H100 80GB HBM3", driver="570.86.15")
    rewrite(copy, 2, instructions="AVX1024")
    worker = worker_of(copy)
    report = regenerate_samples(worker, Store(copy), 75, seed=0)
    worker.close()
    assert report.ok
    assert report.checked == 35
    assert sum(report.skipped.values()) == 40
    again = ("--regenerate", "75", "--device", "cpu", "--source", "dummy:build", "--trust-code")
    call("verify", str(copy), *again)
    said = capsys.readouterr().out
    assert "20 of 75 samples were not sampled again" in said
    assert "gpu NVIDIA H100 80GB HBM3, here none; driver 570.86.15, here none" in said
    assert "35 sampled again, the same" in said


def test_a_difference_on_the_same_platform_is_a_fault_and_on_another_cannot_be_told(copy: Path) -> None:
    flip(copy / "shards/000001.tar", 700)  # a pixel, or what its file is made of
    recommit(copy, 1)
    worker = worker_of(copy)
    assert set(regenerate_samples(worker, Store(copy), 75, seed=0).shards) == {1}
    rewrite(copy, 1, torch="1.0")
    assert regenerate_samples(worker, Store(copy), 75, seed=0).ok
    worker.close()


def test_records_of_before_are_read_and_compared(copy: Path) -> None:
    path = copy / "commits/000001.json"
    record = json.loads(path.read_text())
    del record["platform"]
    path.write_text(json.dumps(record))
    assert read_commit(Store(copy), 1).platform is None
    assert verify_directory(*stored(copy)).ok
    worker = worker_of(copy)
    assert regenerate_samples(worker, Store(copy), 75, seed=0).checked == 75
    worker.close()


@pytest.fixture
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("CUBLAS_WORKSPACE_CONFIG", "TORCHINDUCTOR_DETERMINISTIC"):
        monkeypatch.setenv(name, "unset by the test")  # so that it is as before afterwards
        monkeypatch.delenv(name)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("as_before")
def test_a_reproducible_plan_says_so_and_its_workers_see_to_it(tmp_path: Path) -> None:
    small = ShardOptions(seed=3, batch_size=8, samples_per_shard=20)
    plain, strict = (
        synth_job(tmp_path / "o", settings=s) for s in (small, replace(small, reproducible=True))
    )
    assert "reproducible" not in plain.plan.source
    assert strict.plan.source["reproducible"] is True
    assert strict.plan.fingerprint != plain.plan.fingerprint
    assert not torch.are_deterministic_algorithms_enabled()
    assert synth(tmp_path / "out", settings=replace(small, reproducible=True)) == 0
    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    torch.use_deterministic_algorithms(False)
    Worker(strict).close()
    assert torch.are_deterministic_algorithms_enabled()
    worker = worker_of(tmp_path / "out")
    assert regenerate_samples(worker, Store(tmp_path / "out"), 75, seed=0).checked == 75
    worker.close()
