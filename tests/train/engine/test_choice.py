"""Precision and memory layout chosen by measurement: by the fastest of a few steps, beside the run, once, and kept."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from trainruns import Settings, run, run_until_killed, same_weights

from pptrain.config import load_config
from pptrain.engine.choice import Numerics, settle
from pptrain.engine.choice.cache import Measured, address, keep, read
from pptrain.engine.choice.numerics import candidates
from pptrain.engine.choice.trial import measure
from pptrain.engine.process_group import ProcessGroup
from pptrain.engine.step import StepRunner
from pptrain.engine.task import Task, open_task

FLOAT, BF16 = Numerics("no", True), Numerics("bf16", True)
PLAIN = Numerics("no", False)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(
        "pptrain.engine.choice.numerics.has_bf16", lambda device: False
    )  # as many choices everywhere


def opened(settings: Settings, **more: object) -> Task:
    return open_task(load_config(overrides={**settings, "out": "none", **more}), ProcessGroup("cpu"))


class Clock:
    """Stands still but for the seconds that steps are said to take: `seconds(numerics, images)`, as often as it is asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: Callable[[str, bool, int], float]) -> None:
        self.now = 0.0

        def step(runner: StepRunner, batches: Any) -> float:
            labeled, _ = next(batches)
            loop = runner.config.loop
            self.now += seconds(loop.amp, loop.channels_last, len(labeled.images))
            return 0.0

        monkeypatch.setattr("pptrain.engine.choice.trial._clock", lambda device: lambda: self.now)
        monkeypatch.setattr(StepRunner, "run", step)


def chosen(
    task: Task, monkeypatch: pytest.MonkeyPatch, seconds: Callable[[str, bool, int], float]
) -> Measured:
    clock = Clock(monkeypatch, seconds)
    found = measure(task, ProcessGroup("cpu"), [FLOAT, PLAIN, BF16])
    assert clock.now < 5.0
    assert found is not None
    return found


def test_a_trial_moves_nothing_of_the_run(uda: Settings) -> None:
    task = opened(uda, **{"method.name": "freematch"})
    weights = {name: tensor.clone() for name, tensor in task.net.state_dict().items()}
    torch.manual_seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index, union-attr]
    found = measure(task, ProcessGroup("cpu"), [FLOAT, PLAIN])
    assert found is not None
    assert set(found.rates) == {str(FLOAT), str(PLAIN)}
    assert found.batch == 8
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (np.random.get_state()[1].tolist(), random.getstate())  # type: ignore[index, union-attr]
    assert all(torch.equal(weights[name], tensor) for name, tensor in task.net.state_dict().items())
    assert all(p.grad is None for p in task.net.parameters())
    assert not hasattr(task.method, "context")


def test_the_fastest_step_decides_whatever_else_happens(
    uda: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, calls = opened(uda), []

    def disturbed(amp: str, last: bool, images: int) -> float:
        calls.append(amp)
        rival = 0.5 if len(calls) % 2 else 0.0  # something else has the processor now and then
        return (0.05 if amp == "bf16" else 0.08) + (0.0 if images < 8 else rival)

    assert chosen(task, monkeypatch, disturbed).numerics == BF16
    slow = {"no": 0.01, "bf16": 0.04}
    assert chosen(task, monkeypatch, lambda amp, last, n: slow[amp]).numerics == FLOAT
    nearly = chosen(task, monkeypatch, lambda amp, last, n: 0.1 if last else 0.098)
    assert nearly.numerics == FLOAT  # two hundredths are no reason to be different


def test_a_part_of_the_batch_stands_for_one_that_takes_too_long(
    uda: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = opened(uda, **{"optim.batch_size": 64})
    found = chosen(task, monkeypatch, lambda amp, last, n: 0.02 * n if amp == "bf16" else 0.03 * n)
    assert found.numerics == BF16
    assert found.batch < 64
    assert found.seconds == pytest.approx(0.02 * 64)
    Clock(monkeypatch, lambda amp, last, n: 1.0 * n)
    assert measure(task, ProcessGroup("cpu"), [FLOAT, BF16]) is None


def test_where_little_fits_the_layout_is_not_tried(uda: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    task = opened(uda, **{"optim.batch_size": 64})
    found = chosen(task, monkeypatch, lambda amp, last, n: (0.03 if amp == "bf16" else 0.04) * n + 0.02)
    assert found.numerics == BF16
    assert set(found.rates) == {str(FLOAT), str(BF16)}


def test_a_candidate_that_fails_is_left_out(uda: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(amp: str, last: bool, images: int) -> float:
        if amp == "bf16":
            raise RuntimeError("no kernel")
        return 0.05 if last else 0.01

    assert chosen(opened(uda), monkeypatch, failing).numerics == PLAIN


def found_to_be(numerics: Numerics, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make every trial come to `numerics`; returns the methods of those that are made."""
    made: list[str] = []

    def measured(task: Task, group: ProcessGroup, tried: list[Numerics]) -> Measured:
        made.append(task.config.method.name)
        return Measured(numerics, 0.01, {str(one): 100.0 for one in tried}, 8)

    monkeypatch.setattr("pptrain.engine.choice.settling.measure", measured)
    return made


LONG = {"optim.steps": 80, "loop.eval_every": 80}


def test_an_interrupted_run_and_one_of_its_configuration_stay_what_it_was(
    supervised: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**supervised, **LONG, "loop.checkpoint_every": 5}
    found_to_be(BF16, monkeypatch)
    whole = run(settings, out=str(tmp_path / "whole"))
    run_until_killed({**settings, "out": str(tmp_path / "cut")}, 7, monkeypatch)
    loop = yaml.safe_load((tmp_path / "cut" / "config.yaml").read_text())["loop"]
    assert (loop["amp"], loop["channels_last"], loop["compile"]) == ("bf16", True, False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another cache"))
    made = found_to_be(PLAIN, monkeypatch)
    run(settings, out=str(tmp_path / "cut"))
    assert same_weights(tmp_path / "whole", tmp_path / "cut")
    assert not run(settings, out=str(tmp_path / "whole")).fresh
    repeated = load_config(str(whole.out / "config.yaml"), {"out": str(tmp_path / "repeated")})
    settled = settle(open_task(repeated, ProcessGroup("cpu")), ProcessGroup("cpu"))
    assert settled.config.loop == repeated.loop
    assert made == []
    other = run(settings, out=str(tmp_path / "other"))
    assert made == ["supervised"]
    assert not same_weights(whole.out, other.out)


def test_what_was_measured_before_is_taken_again(uda: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    made, group = found_to_be(PLAIN, monkeypatch), ProcessGroup("cpu")
    first = settle(opened(uda, **LONG), group)
    assert first.notes[-1].startswith("measured, steps/s of 8 labelled images: ")
    again = settle(opened(uda, **LONG, seed=1), group)
    assert again.config.loop == first.config.loop
    assert not again.config.loop.channels_last
    assert again.notes[-1].startswith("measured before, ")
    assert made == ["uda"]
    settle(opened(uda, **LONG, **{"method.name": "fixmatch"}), group)
    assert made == ["uda", "fixmatch"]


def test_settings_that_are_given_are_not_measured(uda: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    made, group = found_to_be(PLAIN, monkeypatch), ProcessGroup("cpu")
    given = {"loop.amp": "bf16", "loop.channels_last": False}
    loop = settle(opened(uda, **LONG, **given), group).config.loop
    assert (loop.amp, loop.channels_last, loop.compile) == ("bf16", False, False)
    short = settle(opened(uda, **{"optim.steps": 79}), group)
    assert (short.config.loop.amp, short.config.loop.channels_last) == ("no", True)
    assert short.notes[-1] == "too short a run to measure what is faster: float32, channels last"
    assert made == []


def test_graphs_are_tried_on_cuda_alone(supervised: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    task, group = opened(supervised, **LONG), ProcessGroup("cpu")
    assert settle(task, group).config.loop.graphs is False
    asked = settle(opened(supervised, **LONG, **{"loop.graphs": True}), group)  # as a run on a GPU keeps it
    assert asked.config.loop.graphs is False
    assert any(note.startswith("no CUDA graphs: ") for note in asked.notes)
    tried: list[list[Numerics]] = []

    def measured(task: Task, group: ProcessGroup, candidates: list[Numerics]) -> Measured:
        tried.append(candidates)
        return Measured(candidates[-1], 0.01, {str(one): 100.0 for one in candidates}, 8)

    monkeypatch.setattr("pptrain.engine.choice.settling.measure", measured)
    monkeypatch.setattr("pptrain.engine.choice.settling.address", lambda *things: str(len(tried)))
    monkeypatch.setattr(group, "device", torch.device("cuda"))
    settled = settle(task, group)
    assert settled.config.loop.graphs is True
    assert tried[-1] == [PLAIN, replace(PLAIN, graphs=True)]
    assert settled.notes[-1].count("CUDA graphs") == 2
    assert settle(settled, group) is settled
    count = len(tried)
    assert settle(opened(supervised, **LONG, **{"optim.accumulate": 2}), group).config.loop.graphs is False
    assert len(tried) == count + 1


def test_candidates_are_what_is_open_and_what_the_machine_can_do(
    supervised: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, cpu = opened(supervised), torch.device("cpu")
    monkeypatch.setattr("pptrain.engine.choice.numerics.has_bf16", lambda device: True)
    every = [Numerics(amp, last) for amp in ("no", "bf16") for last in (True, False)]  # type: ignore[arg-type]
    assert candidates(task.config, task.net, cpu) == every
    assert candidates(task.config, task.net, torch.device("cuda")) == every[2:]
    strided = torch.nn.Conv2d(8, 8, 1, stride=2)  # which may not be channels last on a CPU
    assert candidates(task.config, strided, cpu) == [FLOAT, BF16]
    given = replace(task.config.loop, amp="no", channels_last=False)
    assert candidates(replace(task.config, loop=given), task.net, cpu) == [PLAIN]
    monkeypatch.setattr("pptrain.engine.choice.numerics.has_bf16", lambda device: False)
    assert candidates(task.config, task.net, cpu) == [FLOAT, PLAIN]


def test_a_choice_is_kept_for_what_it_was_measured_on(uda: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    changes: list[Settings] = [
        {},
        {"model.arch": "mobile"},
        {"optim.batch_size": 16},
        {"data.resolution": 24},
        {"method.options": {"mu": 3.0}},
        {"method.batch_norm": "split"},
    ]
    keys = [address(opened(uda, **change), cpu, [FLOAT, PLAIN], 1) for change in changes]
    task = opened(uda, seed=5, **{"optim.lr": 0.5})
    assert address(task, cpu, [FLOAT, PLAIN], 1) == keys[0]
    keys += [address(task, cpu, [FLOAT, BF16], 1), address(task, cpu, [FLOAT, PLAIN], 2)]
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    keys.append(address(task, cpu, [FLOAT, PLAIN], 1))
    monkeypatch.setattr(torch, "__version__", "0")
    keys.append(address(task, cpu, [FLOAT, PLAIN], 1))
    assert len(set(keys)) == len(keys)


def test_the_first_to_keep_a_choice_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, theirs = Measured(FLOAT, 0.5, {"a": 2.0}, 8), Measured(BF16, 0.25, {"a": 4.0}, 8)
    assert read("key") is None
    assert keep("key", mine) == mine
    assert keep("key", theirs) == mine
    (file,) = (tmp_path / "cache").rglob("key.json")
    file.write_text('{"numerics": 3}')
    assert keep("key", theirs) == theirs == read("key")
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))  # no folder can be made below it
    assert keep("key", mine) == mine
