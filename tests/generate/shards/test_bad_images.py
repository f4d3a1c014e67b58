"""NaN and infinite images: never committed, drawn again with a seed that is recorded, and too many of them fail the shard."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from dummy import Painter
from rig import fingerprints, stored, synth, synth_job, worker_of

from ppgen.generators.parts.diffusion import DiffusionGenerator, DiffusionOptions
from ppgen.generators.parts.family import is_bad, to_uint8
from ppgen.generators.parts.networks import PixelDecoder
from ppgen.sampling import schedules
from ppgen.shards.sampler import BadImagesError
from ppgen.sources import Source, SourceSpec
from ppgen.upkeep.verify import regenerate_samples, verify_directory


class Overflowing(Painter):
    """A painter, one in `one_in` of whose seeds gives a NaN; without one every second draw of a batch is none."""

    def __init__(self, one_in: int) -> None:
        super().__init__()
        self.one_in = one_in

    def sample_checked(
        self, condition: torch.Tensor, seeds: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        bad = seeds % self.one_in == 0
        return self.sample(condition, seeds).masked_fill(bad.view(-1, 1, 1, 1), 0), bad


def build(one_in: int) -> Overflowing:
    """The `module:callable` of the tests."""
    return Overflowing(one_in)


def spec(one_in: int) -> SourceSpec:
    return SourceSpec("test_bad_images:build", device="cpu", sampling={"one_in": one_in})


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.fixture
def made(tmp_path: Path) -> Path:
    assert synth(tmp_path / "out", spec=spec(32)) == 0
    return tmp_path / "out"


def test_a_bad_image_is_drawn_again_and_recorded(made: Path) -> None:
    _, plan = stored(made)
    first = np.concatenate([plan.sample_rows(shard).seed for shard in range(plan.num_shards)])
    rows = pq.read_table(made / "manifest.parquet").to_pylist()
    assert 0 < (first % 32 == 0).sum() == sum(row["attempt"] > 0 for row in rows)
    assert all(row["seed"] % 32 for row in rows)
    assert all((row["attempt"] > 0) == (row["seed"] != int(s)) for row, s in zip(rows, first, strict=True))
    commits = [json.loads(path.read_text()) for path in sorted((made / "commits").iterdir())]
    assert sum(commit.get("bad", 0) for commit in commits) == (first % 32 == 0).sum() == 4
    assert (
        "4 first draws held NaN or infinite values and were drawn again" in (made / "README.md").read_text()
    )
    assert verify_directory(*stored(made)).ok
    worker = worker_of(made)
    assert regenerate_samples(worker, stored(made)[0], 75, seed=0).ok
    worker.close()


def test_good_images_keep_their_bytes(tmp_path: Path) -> None:
    """A generator that reports makes what one that does not makes."""
    assert synth(tmp_path / "checked", spec=spec(2**62)) == 0
    assert synth(tmp_path / "plain") == 0
    tars = [
        [v for k, v in fingerprints(tmp_path / name).items() if k.startswith("shards/")]
        for name in ("checked", "plain")
    ]
    assert tars[0] == tars[1]


@pytest.mark.parametrize(("one_in", "message"), [(1, "20 of 20 images hold NaN"), (2, "at most 10% can be")])
def test_a_shard_with_too_many_bad_images_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], one_in: int, message: str
) -> None:
    job = synth_job(tmp_path / "out", spec=spec(one_in))
    worker = worker_for(job)
    with pytest.raises(BadImagesError, match=message):
        worker.make(0)
    worker.close()
    assert synth(tmp_path / "out", spec=spec(one_in)) == 1
    assert not list((tmp_path / "out").glob("commits/*"))


def worker_for(job: object) -> object:
    from ppgen.shards.worker import Worker

    return Worker(job)  # type: ignore[arg-type]


class NanNetwork:
    """A denoiser whose output is NaN for samples conditioned on class 1."""

    tables: tuple[torch.Tensor, ...] = ()
    shape, has_null = (1, 4, 4), False

    def embed(self, condition: torch.Tensor, keep_norm: bool = False) -> torch.Tensor:
        return condition

    def predict(self, x: torch.Tensor, level: int, embedded: torch.Tensor, guided: bool) -> torch.Tensor:
        return x.masked_fill(embedded[:, 1].bool().view(-1, 1, 1, 1), float("nan"))


def test_the_families_report_what_rounds_to_black() -> None:
    options = DiffusionOptions(solver="heun", steps=3, guidance=1.0)
    generator = DiffusionGenerator(
        Source("s", "unet", "s", "local", "unknown", (), {}),
        NanNetwork(),
        schedules.edm(3),
        options,
        PixelDecoder(),
        num_classes=2,
        class_names=(),
        device=torch.device("cpu"),
        dtype=torch.float32,
        weights=(),
    )
    images, bad = generator.sample_checked(torch.eye(2), torch.arange(2))
    assert bad.tolist() == [False, True]
    assert torch.equal(images[0], generator.sample(torch.eye(2), torch.arange(2))[0])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_one_pixel_is_enough(value: float) -> None:
    images = torch.rand(3, 3, 8, 8)
    images[1, 2, 7, 7] = value
    assert is_bad(images).tolist() == [False, True, False]
    assert torch.equal(to_uint8(images)[0], to_uint8(images[:1])[0])
