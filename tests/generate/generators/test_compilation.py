"""Compile only where it pays, say so in the plan, agree on a resume, and go on without a compiler where nobody asked for one."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rig import synth_job

from ppcore.errors import UserError
from ppgen.generators import settle_as_planned, settle_description, settle_for_plan
from ppgen.generators.parts import compilation
from ppgen.generators.parts.compilation import Compilation, choose_mode
from ppgen.plan import adopt_choices

CUDA = torch.device("cuda")


def clock(plain: float, first: float, steady: float, calls: list[str]) -> object:
    def seconds(mode: str) -> float:
        calls.append(mode)
        return plain if mode == "none" else first if calls.count(mode) == 1 else steady

    return seconds


@pytest.mark.parametrize(
    ("batches", "mode", "tried"),
    [(10, "none", 2), (30, "none", 4), (1000, "default", 4)],
    ids=["cannot pay", "does not pay", "pays"],
)
def test_compiling_has_to_pay(batches: int, mode: str, tried: int) -> None:
    calls: list[str] = []
    assert choose_mode(batches, clock(2.0, 80.0, 1.5, calls)) == mode  # type: ignore[arg-type]
    assert len(calls) == tried


def test_a_compiler_that_fails_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    def seconds(mode: str) -> float:
        if mode == "default":
            raise RuntimeError("Python.h: no such file\nand forty lines more")
        return 10.0

    assert choose_mode(1000, seconds) == "none"
    assert capsys.readouterr().err == (
        "warning: compiling failed, so it is left out (Python.h: no such file)\n"
    )


def test_on_a_cpu_auto_is_none_and_a_name_is_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Compilation("auto", torch.device("cpu")).mode == "none"
    with pytest.raises(UserError, match="unknown compile mode"):
        Compilation("fast", torch.device("cpu"))
    monkeypatch.setattr(compilation.shutil, "which", lambda name: None)
    for device in ("cpu", "cuda"):
        with pytest.raises(UserError, match="install it or use compile=none"):
            Compilation("default", torch.device(device))


def test_a_gpu_waits_for_the_plan_and_small_plans_are_not_measured() -> None:
    found = Compilation("auto", CUDA)
    assert (found.mode, found.actual) == ("auto", "none")
    generator = SimpleNamespace(compilation=found)  # it has no `sample`, and must not need one
    settle_for_plan(generator, batch=64, samples=200)
    assert found.mode == "none"


def test_a_worker_runs_what_the_plan_says() -> None:
    source = {"sampling": {"compile": "default"}}
    asked, told = Compilation("auto", CUDA), Compilation("none", CUDA)
    for each in (asked, told):
        settle_as_planned(SimpleNamespace(compilation=each), source)
    assert (asked.mode, told.mode) == ("default", "none")


def test_a_plan_described_elsewhere_is_definite() -> None:
    source = {"sampling": {"compile": "auto", "steps": 4}}
    for batches, reproducible, mode in ((10, False, "none"), (1000, False, "default"), (1000, True, "none")):
        assert settle_description(source, batches, reproducible)["sampling"]["compile"] == mode
    assert settle_description({"sampling": {}}, 1000, False) == {"sampling": {}}


def test_without_a_compiler_auto_goes_on_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compilation.shutil, "which", lambda name: None)
    found = Compilation("auto", CUDA)
    run = found.wrap(lambda x: x + 1)
    for _ in range(2):
        settle_as_planned(SimpleNamespace(compilation=found), {"sampling": {"compile": "default"}})
        assert float(run(torch.zeros(()))) == 1.0
    assert (found.mode, found.actual) == ("default", "none")
    assert capsys.readouterr().err.count("no C compiler here") == 1


def test_a_resume_takes_what_the_directory_chose(tmp_path: Path) -> None:
    stored = synth_job(tmp_path / "out").plan
    chosen = {**stored.source, "sampling": {"compile": "default", "steps": 4}}
    stored = replace(stored, source=chosen, batch_size=4, samples_per_shard=12)
    asked = replace(stored, source={**chosen, "sampling": {"compile": "none", "steps": 4}}, batch_size=8)
    assert adopt_choices(stored, asked, set()) == stored
    assert adopt_choices(stored, asked, {"compile", "batch_size", "samples_per_shard"}) == asked
    other = replace(asked, source={**chosen, "sampling": {"compile": "none", "steps": 5}})
    assert adopt_choices(stored, other, set()).source["sampling"]["steps"] == 5


def test_one_cache_of_machine_code_a_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    compilation.keep_machine_code_on_node()
    folder = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    folder.chmod(0o777)  # anybody could lay code there
    compilation.keep_machine_code_on_node()
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ
