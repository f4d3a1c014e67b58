"""What a plan chooses where the user does not, and the number type of scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dummy import build
from rig import make_classifier, stored, synth, synth_job

from ppgen.options import ShardOptions, SynthOptions
from ppgen.plan import adopt_choices, build_synth_plan
from ppgen.shards import Worker
from ppgen.shards.finalize import read_rows
from ppgen.sources import SourceSpec


@pytest.mark.parametrize(
    ("batch", "per_class", "samples"),
    [(100, 10_000, 1000), (512, 10_000, 1024), (256, 10_000, 1024), (8, 10_000, 1000), (48, 10_000, 1000)],
)
def test_a_large_plan_s_shards_are_whole_batches(batch: int, per_class: int, samples: int) -> None:
    spec = SourceSpec("dummy:build", device="cpu")
    plan = build_synth_plan(
        build(), spec, SynthOptions(classes=None, per_class=per_class, shards=ShardOptions(batch_size=batch))
    )
    assert plan.samples_per_shard == samples


@pytest.mark.parametrize(("batch", "samples"), [(8, 16), (64, 64)])
def test_small_plans_are_cut_as_ever(batch: int, samples: int) -> None:
    spec = SourceSpec("dummy:build", device="cpu")
    plan = build_synth_plan(
        build(), spec, SynthOptions(classes=None, per_class=25, shards=ShardOptions(batch_size=batch))
    )
    assert plan.samples_per_shard == samples


def test_scores_in_half_precision_are_a_choice_of_the_plan(tmp_path: Path) -> None:
    classifier = make_classifier(tmp_path / "classifier")
    spec = SourceSpec("dummy:build", device="cpu", classifier=str(classifier), trust_code=True)
    settings = ShardOptions(seed=3, batch_size=8, samples_per_shard=20, score=True)
    assert synth(tmp_path / "full", spec=spec, settings=settings) == 0
    plan = stored(tmp_path / "full")[1]
    assert plan.score is not None
    assert "dtype" not in plan.score
    half = replace(plan, score={**plan.score, "dtype": "bfloat16"})
    assert half.fingerprint != plan.fingerprint
    assert adopt_choices(half, plan, set()) == half
    assert adopt_choices(plan, half, set()) == plan

    worker = Worker(
        replace(
            synth_job(tmp_path / "full", spec=spec, settings=settings), plan=half, out=str(tmp_path / "half")
        )
    )
    worker.make(0)
    worker.close()
    full, rounded = (
        read_rows(stored(tmp_path / "full")[0].__class__(tmp_path / name), plan, 0)
        .column("confidence")
        .to_numpy()
        for name in ("full", "half")
    )
    np.testing.assert_allclose(full, rounded, atol=0.02)
