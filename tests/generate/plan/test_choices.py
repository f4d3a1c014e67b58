"""What a plan chooses where the user does not, and the number type of scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dummy import build
from rig import make_classifier, stored, synth, synth_job

from ppcore.errors import UserError
from ppgen.options import ShardOptions, SynthOptions
from ppgen.plan import Conditions, adopt_choices, build_synth_plan
from ppgen.plan.build import share_out
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


def test_samples_are_shared_out_by_the_mean_soft_label() -> None:
    favoured = np.array([0.7, 0.2, 0.1, 0.0])
    assert share_out(40, favoured, 1.0) == [28, 8, 4, 0]
    assert share_out(40, favoured, 0.5) == [19, 9, 7, 5]
    assert share_out(7, favoured, 0.5) == [3, 2, 1, 1]  # the largest remainders
    assert share_out(8, np.zeros(4), 0.5) == [2, 2, 2, 2]


def test_a_set_like_a_target_has_more_of_the_classes_it_resembles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soft = np.linspace(0, 1, build().num_classes, dtype=np.float32)[None]
    measured = Conditions(["image"], soft / soft.sum()), 1.0, ""
    monkeypatch.setattr("ppgen.plan.build.measure", lambda *_, **__: measured)
    classifier = make_classifier(tmp_path / "classifier")
    spec = SourceSpec("dummy:build", device="cpu", classifier=str(classifier), trust_code=True)
    even, like = SynthOptions(per_class=20), SynthOptions(per_class=20, like="digits", labels_per_class=2)
    plan, favoured = (build_synth_plan(build(), spec, options) for options in (even, like))
    counts = favoured.per_class
    assert isinstance(counts, list)
    assert sum(counts) == favoured.samples == plan.samples
    assert min(counts) >= 10  # half of the samples are spread evenly
    assert counts == sorted(counts)
    assert counts[-1] > 25
    drawn = np.concatenate([favoured.sample_rows(shard).label for shard in range(favoured.num_shards)])
    assert np.bincount(drawn, minlength=len(counts)).tolist() == counts
    assert build_synth_plan(build(), spec, like).fingerprint == favoured.fingerprint


@pytest.mark.parametrize("options", [{"like_share": 0.7}, {"labels_per_class": 3}, {"label_seed": 1}])
def test_options_of_like_need_it(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="add --like TARGET"):
        SynthOptions(**options)
    with pytest.raises(UserError, match="give a share above 0, at most 1"):
        SynthOptions(like="digits", like_share=1.5)
