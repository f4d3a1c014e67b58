"""What `ppgen doctor` says of machines that lack something."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from ppgen.cli import app
from ppgen.doctor import Finding, as_json, as_text, hardware, places, software


def test_the_worst_state_is_the_machines() -> None:
    fine, poor = Finding("a", "1"), Finding("bee", "2", "limited", "c will not work", "get c")
    assert json.loads(as_json([fine]))["state"] == "ok"
    assert json.loads(as_json([fine, poor]))["state"] == "limited"
    assert json.loads(as_json([poor, Finding("d", "", "broken", "x", "y")]))["state"] == "broken"
    assert as_text([fine, poor]).splitlines()[1:] == [
        "ok      a    1",
        "limited bee  2",
        "             c will not work",
        "             -> get c",
    ]


def test_packages_that_are_missing_old_or_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "gone":
            raise PackageNotFoundError(name)
        return {"old": "1.0", "torch": "2.15.0"}.get(name, "9.0")

    def load(name: str) -> None:
        if name == "torn":
            raise RuntimeError("operator torchvision::nms does not exist\nmore")

    lines = [
        "torch>=2",
        "gone>=1; extra == 'a'",
        "old>=2; extra == 'b'",
        "torn; extra == 'b'",
        "x; extra == 'dev'",
    ]
    monkeypatch.setattr(software, "requires", lambda _: lines)
    monkeypatch.setattr(software, "version", version)
    monkeypatch.setattr(software.importlib, "import_module", load)
    always, first, second = software.check_packages("mine")
    assert always == Finding("packages", "torch 2.15.0")
    assert (first.state, first.facts, first.remedy) == ("limited", "none", "pip install 'mine[a]'")
    assert first.lost.startswith("gone is not installed")
    assert "old is 1.0, expected >=2" in second.lost
    assert (
        "torn 9.0 cannot be imported (RuntimeError: operator torchvision::nms does not exist)" in second.lost
    )
    lines[:] = ["gone"]
    assert software.check_packages("mine")[0].state == "broken"


def test_every_extra_says_what_is_lost_without_it() -> None:
    found = {finding.check for finding in software.check_packages()}
    assert {"packages", "packages[generate]", "packages[train]", "packages[s3]"} <= found
    assert "packages[dev]" not in found


@pytest.mark.parametrize(
    ("gigabytes", "state", "words"),
    [(64, "ok", ""), (4.5, "limited", "dit-xl-2-256 (about 5.2 GB)"), (1, "broken", "letters")],
)
def test_sources_that_do_not_fit(gigabytes: float, state: str, words: str) -> None:
    found = hardware.judge_memory("memory", gigabytes * 1e9, "", bytes_a_value=4)
    assert found.state == state
    assert words in found.lost


def test_limits_of_containers(tmp_path: Path) -> None:
    machine = hardware.memory_limit(tmp_path)
    assert machine > 1e9
    assert hardware.cpu_quota(tmp_path) is None
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert (hardware.memory_limit(tmp_path), hardware.cpu_quota(tmp_path)) == (machine, None)
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert (hardware.memory_limit(tmp_path), hardware.cpu_quota(tmp_path)) == (1_000_000, 1.5)


def test_small_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware.shutil, "disk_usage", lambda _: SimpleNamespace(total=64 * 2**20))
    found = hardware.check_shared_memory()
    assert (found.state, found.facts) == ("limited", "67.1 MB")
    assert "--shm-size" in found.remedy


@pytest.mark.parametrize(
    ("driver", "cuda", "words"),
    [
        (None, "13.0", "on a CPU"),
        ("H100, 550", None, "built without CUDA"),
        ("H100, 550", "13.0", "driver too old"),
    ],
)
def test_why_there_is_no_gpu(
    monkeypatch: pytest.MonkeyPatch, driver: str | None, cuda: str | None, words: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(hardware, "_driver_says", lambda: driver)
    (found,) = hardware.check_gpus()
    assert found.state == "limited"
    assert words in found.lost


def test_where_shards_would_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = places.check_out(str(tmp_path / "not/yet"))
    assert found.state in ("ok", "limited")  # a laptop's disk may be slow
    assert str(tmp_path) in found.facts
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_bytes(b"")
    assert places.check_out(str(tmp_path / "file")).state == "broken"
    assert places.check_out("memory://place").state == "ok"
    assert places.check_out("nowhere://place").state == "broken"
    monkeypatch.setattr(places.time, "perf_counter", iter([0.0, 60.0]).__next__)
    assert places.check_out(str(tmp_path)).lost == "several GPUs would wait for it"


def test_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    found = places.check_hub()
    assert found.state == "limited"
    assert found.lost.startswith("HF_HUB_OFFLINE is set, so dit-xl-2-256")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "does not answer (ConnectError)" in places.check_hub().lost


def test_a_source_that_cannot_be_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("no kernel image is available\nfor execution")

    monkeypatch.setattr(places, "open_generator", fail)
    found = places.check_source()
    assert (found.state, found.lost) == ("broken", "no image could be made: no kernel image is available")


@pytest.mark.parametrize(("state", "status"), [("ok", 0), ("limited", 0), ("broken", 1)])
def test_exit_status(monkeypatch: pytest.MonkeyPatch, state: str, status: int) -> None:
    monkeypatch.setattr("ppgen.doctor.examine", lambda out: [Finding("a", out, state, "b", "c")])  # type: ignore[arg-type]
    result = CliRunner().invoke(app, ["doctor", "--json", "--out", "here"])
    assert result.exit_code == status
    assert json.loads(result.output)["findings"][0]["facts"] == "here"
