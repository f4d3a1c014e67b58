"""A GPU that is too small for the plan's batch: said at once, because no attempt can succeed; and memory that is short for a moment."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from dummy import Painter
from plans import make_plan
from rig import Watch, synth_job

from ppcore.errors import UserError
from ppgen.engines.events import Failure
from ppgen.engines.run import run_job
from ppgen.options import HERE
from ppgen.shards.sampler import Sampler
from ppgen.sources import SourceSpec

FULL = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 16.00 GiB"


class Large(Painter):
    """A painter on a device that holds as many samples as the file `capacity` says."""

    def __init__(self, capacity: str) -> None:
        super().__init__()
        self.capacity = capacity

    def sample(self, condition: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
        if len(seeds) > int(Path(self.capacity).read_text()):
            raise torch.OutOfMemoryError(FULL)
        return super().sample(condition, seeds)


def build(capacity: str) -> Large:
    """The `module:callable` of the tests."""
    return Large(capacity)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def test_a_batch_that_does_not_fit_ends_the_run_with_what_to_do(tmp_path: Path) -> None:
    """Also where a directory is resumed on a smaller GPU; on one that is large enough it goes on."""
    capacity = tmp_path / "capacity"
    capacity.write_text("4")
    spec = SourceSpec("test_memory:build", device="cpu", sampling={"capacity": str(capacity)})
    job, watch = synth_job(tmp_path / "out", spec=spec), Watch()
    with pytest.raises(
        UserError, match=r"a batch of 8 samples .* another --out with --batch-size 4$"
    ) as told:
        run_job(job, HERE, None, [watch])
    assert "(CUDA out of memory)" in str(told.value)
    assert len(watch.of("missed")) == 1
    capacity.write_text("8")
    assert run_job(job, HERE, None) == 0


def test_memory_that_is_short_for_a_moment_is_tried_again(tmp_path: Path) -> None:
    capacity = tmp_path / "capacity"
    capacity.write_text("8")
    sampler = Sampler(make_plan(), Large(str(capacity)), None, None)
    try:
        sampler.sample(0)()
        capacity.write_text("4")
        with pytest.raises(torch.OutOfMemoryError) as error:
            sampler.sample(1)
        assert Failure.of(error.value).kind == "machine"
    finally:
        sampler.close()
