"""What `ppgen doctor` says about machines that lack something."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from ppgen import doctor
from ppgen.cli import app
from ppgen.doctor import Finding, as_json, as_text


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
        "gone>=1; extra == 's3'",
        "old>=2; extra == 'text'",
        "torn; extra == 'text'",
        "x; extra == 'dev'",
        "mkdocs>=99; extra == 'docs'",
    ]
    monkeypatch.setattr(doctor, "requires", lambda _: lines)
    monkeypatch.setattr(doctor, "version", version)
    monkeypatch.setattr(doctor.importlib, "import_module", load)
    always, first, second = doctor.check_packages("mine")
    assert always == Finding("packages", "torch 2.15.0")
    assert (first.state, first.facts, first.remedy) == ("limited", "none", "pip install 'mine[s3]'")
    assert first.lost == "gone is not installed; needed for directories in s3://"
    assert "old is 1.0, expected >=2" in second.lost
    assert (
        "torn 9.0 cannot be imported (RuntimeError: operator torchvision::nms does not exist)" in second.lost
    )
    lines[:] = ["gone"]
    assert doctor.check_packages("mine")[0].state == "broken"


def test_every_extra_that_a_command_needs_is_checked() -> None:
    checks = {finding.check for finding in doctor.check_packages()}
    assert checks == {"packages", *(f"packages[{extra}]" for extra in doctor._NEEDED_FOR if extra)}


@pytest.mark.parametrize(
    ("gigabytes", "state", "lost"),
    [
        (64, "ok", ""),
        (
            3.5,
            "limited",
            "these sources do not fit: dit-xl-2-256 (3.6 GB), dit-xl-2-512 (3.6 GB), var-d24-256 (4.2 GB), var-d30-256 (6.1 GB), "
            "var-d36-512 (6.8 GB)",
        ),
    ],
)
def test_sources_that_do_not_fit_a_gpu(
    monkeypatch: pytest.MonkeyPatch, gigabytes: float, state: str, lost: str
) -> None:
    gpu = SimpleNamespace(name="X", total_memory=gigabytes * 1e9)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: gpu)
    (found,) = doctor.check_gpus()
    assert (found.state, found.lost) == (state, lost)


def test_small_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(total=64 * 2**20))
    found = doctor.check_shared_memory()
    assert (found.state, found.facts) == ("limited", "67.1 MB")
    assert "--shm-size" in found.remedy


@pytest.mark.parametrize(("cuda", "words"), [(None, "built without CUDA"), ("13.0", "update its driver")])
def test_why_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch, cuda: str | None, words: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    (finding,) = doctor.check_gpus()
    assert finding.state == "limited"
    assert words in f"{finding.facts}; {finding.remedy}"


def test_where_shards_would_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = doctor.check_out(str(tmp_path / "not/yet"))
    assert found.state in ("ok", "limited")  # a laptop's disk may be slow
    assert str(tmp_path) in found.facts
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_bytes(b"")
    assert doctor.check_out(str(tmp_path / "file")).state == "broken"
    assert doctor.check_out("memory://place").state == "ok"
    assert doctor.check_out("nowhere://place").state == "broken"
    monkeypatch.setattr(doctor.time, "perf_counter", iter([0.0, 60.0]).__next__)
    assert doctor.check_out(str(tmp_path)).lost == "several GPUs would wait for it"


def test_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    found = doctor.check_hub()
    assert found.state == "limited"
    assert found.lost.startswith("HF_HUB_OFFLINE is set; not available: dit-xl-2-256")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "does not answer (ConnectError)" in doctor.check_hub().lost


@pytest.mark.parametrize(("state", "status"), [("ok", 0), ("limited", 0), ("broken", 1)])
def test_exit_status(monkeypatch: pytest.MonkeyPatch, state: str, status: int) -> None:
    monkeypatch.setattr(doctor, "examine", lambda out: [Finding("a", out, state, "b", "c")])  # type: ignore[arg-type]
    result = CliRunner().invoke(app, ["doctor", "--json", "--out", "here"])
    assert result.exit_code == status
    assert json.loads(result.output)["findings"][0]["facts"] == "here"
