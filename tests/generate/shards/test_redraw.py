"""--drop-below: what is kept, what is recorded, and that it does not depend on who makes it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from faint import build, make_head
from rig import fingerprints, stored, synth, synth_job, worker_of

from ppcore.errors import UserError
from ppcore.shards import ShardSet
from ppcore.storage import Store
from ppgen.engines import make_shards
from ppgen.options import HERE
from ppgen.plan.build import MAX_DRAWS
from ppgen.plan.conditions import condition_rows
from ppgen.plan.request import Settings
from ppgen.shards.directory import claimed
from ppgen.shards.redraw import with_attempts
from ppgen.sources import SourceSpec, open_classifier
from ppgen.upkeep.regenerate import regenerate_samples
from ppgen.upkeep.verify import verify_directory

BELOW = 0.9


def settings(below: float = BELOW) -> Settings:
    return Settings(seed=3, batch_size=8, samples_per_shard=20, drop_below=below)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> SourceSpec:
    head = make_head(tmp_path_factory.mktemp("head") / "classifier")
    return SourceSpec("faint:build", device="cpu", classifier=str(head), trust_code=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, spec: SourceSpec) -> Path:
    out = tmp_path_factory.mktemp("redrawn") / "out"
    assert synth(out, spec=spec, settings=settings()) == 0
    return out


def test_the_first_good_draw_is_kept(made: Path, spec: SourceSpec) -> None:
    """Against the definition, one sample and one draw at a time."""
    _, plan = stored(made)
    generator, classifier = build(), open_classifier(spec, 10)
    kept = pq.read_table(made / "manifest.parquet").to_pylist()
    later = 0
    for shard in range(plan.num_shards):
        rows = plan.sample_rows(shard)
        condition, _ = condition_rows(plan, rows, None)
        scores, seeds = [], []
        for draw in range(MAX_DRAWS):
            drawn = with_attempts(rows, np.full(len(rows), draw))
            labels = torch.from_numpy(condition)
            images = generator.sample(labels, torch.from_numpy(drawn.seed))
            with torch.inference_mode():
                scores.append((classifier(images).softmax(1) * labels).sum(1).numpy())
            seeds.append(drawn.seed)
        for row, index in enumerate(rows.index):
            own = [float(score[row]) for score in scores]
            expected = next((d for d, p in enumerate(own) if p >= BELOW), int(np.argmax(own)))
            found = kept[index]
            assert found["attempt"] == expected
            assert found["seed"] == seeds[expected][row]
            assert np.isclose(found["confidence"], own[expected])
            later += expected > 0
    assert later > 20


def test_classes_stay_balanced_and_images_match_their_rows(made: Path) -> None:
    shards = ShardSet.open(str(made))
    labels = [sample.label for shard in shards.shards for sample in shards.read(shard)]
    assert np.bincount(labels).tolist() == [25, 0, 25, 0, 0, 25]
    report = verify_directory(*stored(made))
    assert report.ok, report
    worker = worker_of(made)
    assert regenerate_samples(worker, stored(made)[0], 75, seed=0).ok
    worker.close()


def test_bytes_do_not_depend_on_workers_or_order(made: Path, tmp_path: Path, spec: SourceSpec) -> None:
    """Two workers share the shards, out of order; the run that follows has only to finish the directory."""
    job = synth_job(tmp_path / "two", spec=spec, settings=settings())
    with claimed(Store(job.out), job.plan, None):
        for shards in ([2, 0], [3, 1]):
            make_shards(job, shards, HERE, lambda event: None)
    assert synth(tmp_path / "two", spec=spec, settings=settings()) == 0
    assert fingerprints(tmp_path / "two") == fingerprints(made)


def test_the_best_draw_is_kept_when_none_is_good(tmp_path: Path, spec: SourceSpec) -> None:
    out = tmp_path / "out"
    assert synth(out, spec=spec, settings=settings(0.99999)) == 0
    records = [json.loads((out / f"commits/{shard:06d}.json").read_text()) for shard in range(4)]
    assert sum(record["below"] for record in records) == 75
    assert "75 of them kept below it" in (out / "README.md").read_text()
    rows = pq.read_table(out / "manifest.parquet").to_pylist()
    assert {row["attempt"] for row in rows} == set(range(MAX_DRAWS))
    assert verify_directory(*stored(out)).ok


def test_a_lying_attempt_is_found(made: Path, tmp_path: Path) -> None:
    import shutil

    from rig import recommit

    out = Path(shutil.copytree(made, tmp_path / "out"))
    path = out / "meta/000001.parquet"
    table = pq.read_table(path)
    place = table.schema.get_field_index("attempt")
    for value, problem in ((MAX_DRAWS, "lies in column 'attempt'"), (4, "lies in column 'seed'")):
        values = table.column("attempt").to_pylist()
        values[3] = value
        changed = pa.array(values, type=pa.int16())
        pq.write_table(table.set_column(place, table.schema.field(place), changed), path)
        recommit(out, 1)
        assert any(problem in p for p in verify_directory(*stored(out)).shards[1])


@pytest.mark.parametrize("below", [0.0, 1.0, -0.5, float("nan")])
def test_impossible_thresholds_are_refused(tmp_path: Path, spec: SourceSpec, below: float) -> None:
    with pytest.raises(UserError, match="--drop-below is"):
        synth(tmp_path / "out", spec=spec, settings=settings(below))
    assert not (tmp_path / "out").exists()


def test_another_threshold_is_another_plan(made: Path, spec: SourceSpec) -> None:
    with pytest.raises(UserError, match=r"redraw.below 0.9 -> 0.8"):
        synth(made, spec=spec, settings=settings(0.8))
