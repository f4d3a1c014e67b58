"""Worker processes of this machine: a sick one, GPUs to spread over, and what the driver keeps."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from rig import Watch, fingerprints, synth

from ppgen.engines import engine, inline
from ppgen.engines.driver import SEAT_LIMIT
from ppgen.engines.engine import open_for_workers
from ppgen.generators import open_generator
from ppgen.options import EngineOptions, ShardOptions, SynthOptions
from ppgen.plan import Plan, build_synth_plan
from ppgen.sources import Generator
from ppgen.sources.protocol import SourceSpec

HUNDRED = ShardOptions(seed=3, batch_size=3, samples_per_shard=3)


def painter(**options: object) -> SourceSpec:
    return SourceSpec("fragile:build", device="cpu", sampling=options)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_sick_worker_is_replaced_and_100_of_100_shards_are_committed(tmp_path: Path) -> None:
    """One that fails fast would take all the work: 2 of 100 shards were committed, 10 failed, 88 abandoned."""
    spec = painter(sick=str(tmp_path / "sick"), delay=0.05)
    assert synth(tmp_path / "out", EngineOptions(workers=2), per_class=100, settings=HUNDRED, spec=spec) == 0
    assert len(list((tmp_path / "out/commits").iterdir())) == 100


@pytest.mark.slow
def test_beside_a_sick_gpu_100_of_100_shards_are_committed(
    tmp_path: Path, capfd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inline, "visible_gpus", lambda device: ["0", "1"])
    spec, watch = painter(sick="GPU 1", delay=0.05), Watch()
    assert (
        synth(tmp_path / "out", EngineOptions(workers=2), watch, per_class=100, settings=HUNDRED, spec=spec)
        == 0
    )
    assert sorted(event.shard or 0 for event in watch.of("committed")) == list(range(100))
    assert len(watch.of("missed")) <= SEAT_LIMIT
    message = capfd.readouterr().err
    for place in [str(event.worker) for event in watch.of("quarantined")]:  # unless the other was faster
        assert place.startswith("GPU 1 of ")
        assert f"{place} failed on shards that succeeded elsewhere and gets no more shards" in message
        assert f"quarantined: {place}, whose last error was RuntimeError: no such tensor" in message


@pytest.mark.slow
def test_processes_are_spread_over_the_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pids").mkdir()
    monkeypatch.setattr(inline, "visible_gpus", lambda device: ["3", "GPU-5"] if device == "cpu" else [])
    spec = painter(pids=str(tmp_path / "pids"), delay=1.0)
    assert synth(tmp_path / "out", EngineOptions(workers=4), spec=spec) == 0
    seen = Counter(file.read_text() for file in (tmp_path / "pids").iterdir())
    assert (seen["3"], seen["GPU-5"]) == (2, 2)
    monkeypatch.undo()
    assert synth(tmp_path / "alone", spec=painter()) == 0
    ours, theirs = (
        {name: digest for name, digest in fingerprints(tmp_path / made).items() if "shards/" in name}
        for made in ("out", "alone")
    )
    assert ours == theirs


@pytest.mark.parametrize(
    ("device", "named", "found"),
    [
        ("auto", "", ["0", "1", "2"]),
        ("cuda", "4,7", ["4", "7"]),
        ("cuda:1", "", []),
        ("cpu", "", []),
    ],
)
def test_which_gpus_processes_may_have(
    monkeypatch: pytest.MonkeyPatch, device: str, named: str, found: list[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert inline.visible_gpus(device) == found


@pytest.mark.parametrize(("share", "limits"), [(1.0, []), (0.5, [0.475]), (0.25, [0.2375]), (2.0, [])])
def test_a_share_of_a_gpu_is_one_of_its_memory(
    monkeypatch: pytest.MonkeyPatch, share: float, limits: list[float]
) -> None:
    given: list[float] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", given.append)
    inline.limit_gpu_memory(share)
    assert given == pytest.approx(limits)


@pytest.mark.parametrize(("workers", "count", "share"), [(8, 8, 1.0), (8, 4, 0.5), (5, 4, 0.5), (2, 4, 1.0)])
def test_workers_share_gpus_evenly(workers: int, count: int, share: float) -> None:
    assert inline.gpu_share(workers, count) == share


def test_a_driver_of_several_gpu_workers_opens_no_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """The source is opened in a process that ends, on the first GPU; the plan is the one of a driver that opened it."""
    monkeypatch.setattr(engine, "visible_gpus", lambda device: ["6", "7"])
    monkeypatch.setattr(engine, "open_generator", lambda spec: pytest.fail("opened here"))
    _, source, plan = open_for_workers(painter(says_gpus=True), EngineOptions(workers=2), small_plan)
    assert source is None
    assert plan.source["on"] == "6"
    assert plan.batch_size == 10
    here = painter(says_gpus=True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6")
    assert plan.fingerprint == small_plan(here, open_generator(here)).fingerprint


def small_plan(spec: SourceSpec, generator: Generator) -> Plan:
    return build_synth_plan(generator, spec, SynthOptions(classes="0,2", per_class=5, shards=ShardOptions()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_workers": 2}, "--min-workers is an option of Ray"),
        ({"engine": "ray", "workers": 2, "max_workers": 3}, "--workers sets an exact number"),
        ({"engine": "ray", "min_workers": 4, "max_workers": 3}, "--min-workers 4 is above --max-workers 3"),
        ({"engine": "ray", "max_workers": 0}, "--max-workers is 0"),
    ],
)
def test_ranges_that_make_no_sense(options: dict[str, object], message: str) -> None:
    from ppcore.errors import UserError

    with pytest.raises(UserError, match=message):
        EngineOptions(**options)  # type: ignore[arg-type]
