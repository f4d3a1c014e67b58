from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from ppcore.classifiers import Classifier, ClassifierSpec, usual_input
from ppcore.errors import UserError
from ppcore.targets import ImageSet
from ppgen.plan.conditions import (
    Conditions,
    condition_rows,
    conditions_sha256,
    describe_sharpness,
    effective_classes,
    measure,
    sharp_temperature,
    soft_labels,
)
from ppgen.plan.plan import Plan, Segment
from ppgen.quality.features import measure_images
from ppgen.sources.classifier import AlignedClassifier

K = 5


def table(images: int = 4) -> Conditions:
    rng = np.random.default_rng(0)
    soft = rng.dirichlet(np.full(K, 0.7), images).astype(np.float32)
    return Conditions([f"image {i}" for i in range(images)], soft)


def plan_of(mode: str, samples: int, conditions: Conditions) -> Plan:
    return Plan(
        kind="pseudo",
        source={"name": "d", "class_names": list("abcde")},
        classes=(),
        seed=1,
        batch_size=8,
        samples_per_shard=samples,
        encoding={"format": "png", "level": 6},
        resolution=16,
        channels=1,
        segments=(Segment(0, samples),),
        target={"name": "t", "images": len(conditions.target_ids)},
        condition={"mode": mode, "sha256": conditions_sha256(conditions)},
    )


def test_temperature_and_top_k() -> None:
    logits = torch.tensor([[0.0, 1.0, 3.0, -1.0], [1e4, -1e4, 0.0, 1e4]])
    assert torch.allclose(soft_labels(logits, 1.0, None), logits.double().softmax(1))
    assert torch.allclose(soft_labels(logits, 2.0, 4), (logits.double() / 2).softmax(1))
    cut = soft_labels(logits, 1.0, 2)
    assert (cut[0] > 0).tolist() == [False, True, True, False]
    assert torch.allclose(cut.sum(1), torch.ones(2, dtype=torch.float64))
    assert torch.isclose(cut[0, 2] / cut[0, 1], torch.tensor(2.0).exp().double())


def test_effective_classes_are_those_of_uniform_and_one_hot_rows() -> None:
    assert effective_classes(np.full((3, 200), 1 / 200)) == pytest.approx(200)
    assert effective_classes(np.eye(7)) == pytest.approx(1)
    half = np.zeros((2, 9))
    half[:, :4] = 0.25
    assert effective_classes(half) == pytest.approx(4)


def test_flat_soft_labels_are_sharpened_and_sharp_ones_are_left() -> None:
    """Logits of a classifier with label smoothing: one class ahead of a flat tail."""
    logits = torch.randn(50, 200, generator=torch.Generator().manual_seed(0))
    logits[:, 0] += 3
    flat = effective_classes(soft_labels(logits, 1.0, None))
    temperature = sharp_temperature(logits)
    assert flat > 60
    assert effective_classes(soft_labels(logits, temperature, None)) <= 16
    assert effective_classes(soft_labels(logits, round(temperature + 0.1, 1), None)) > 16
    assert sharp_temperature(10 * logits) == 1
    assert sharp_temperature(0 * logits) == 0.1
    soft = soft_labels(logits, temperature, None).numpy()
    line = describe_sharpness(logits, temperature, soft)
    assert f"at temperature {temperature:g}, {flat:.1f} at 1" in line
    assert "of 200 classes carry 90 %" in line


def test_soft_rows_are_the_table_and_every_image_serves_equally() -> None:
    conditions = table()
    plan = plan_of("soft", 42, conditions)
    rows = plan.sample_rows(0)
    condition, label = condition_rows(plan, rows, conditions)
    assert label is None
    assert (condition == conditions.soft[rows.target]).all()
    assert sorted(np.bincount(rows.target).tolist()) == [10, 10, 11, 11]


def test_draw_follows_the_soft_label_and_is_one_hot() -> None:
    conditions = table(1)
    plan = plan_of("draw", 20_000, conditions)
    condition, label = condition_rows(plan, plan.sample_rows(0), conditions)
    assert (condition.sum(1) == 1).all()
    assert (condition.argmax(1) == label).all()
    assert np.abs(condition.mean(0) - conditions.soft[0]).max() < 0.02


def test_draw_never_takes_a_class_of_probability_zero() -> None:
    conditions = Conditions(["one"], np.array([[0.0, 0.5, 0.0, 0.5, 0.0]], dtype=np.float32))
    plan = plan_of("draw", 2000, conditions)
    _, label = condition_rows(plan, plan.sample_rows(0), conditions)
    assert set(np.unique(label)) == {1, 3}


def test_uniform_is_uniform_whatever_the_soft_label() -> None:
    conditions = Conditions(["one"], np.eye(K, dtype=np.float32)[:1])
    plan = plan_of("uniform", 20_000, conditions)
    condition, _ = condition_rows(plan, plan.sample_rows(0), conditions)
    assert np.abs(condition.mean(0) - 1 / K).max() < 0.02


@pytest.mark.parametrize("mode", ["draw", "uniform"])
def test_draws_do_not_depend_on_the_shard_cut(mode: str) -> None:
    conditions = table()
    whole = plan_of(mode, 40, conditions)
    cut = dataclasses.replace(whole, samples_per_shard=10)
    _, expected = condition_rows(whole, whole.sample_rows(0), conditions)
    found = [condition_rows(cut, cut.sample_rows(shard), conditions)[1] for shard in range(4)]
    assert np.concatenate(found).tolist() == expected.tolist()


def test_the_table_is_checked_against_the_plan() -> None:
    conditions = table()
    plan = plan_of("soft", 8, conditions)
    again = Conditions.from_parquet(conditions.to_parquet(), plan)
    assert again.target_ids == conditions.target_ids
    assert (again.soft == conditions.soft).all()
    assert again.soft.dtype == np.float32
    with pytest.raises(UserError, match="sha256 differs"):
        Conditions.from_parquet(table(3).to_parquet(), plan)


class Recorder(torch.nn.Linear):
    """Remembers its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x)
        return super().forward(x.mean((2, 3)))


def test_conditions_and_reports_show_the_source_classifier_the_pixels_of_timm() -> None:
    name = "convnext_tiny.in12k_ft_in1k_384"  # squashes images
    net = Recorder(3, K)
    net.seen = []
    spec = ClassifierSpec(name, tuple("abcde"), 3, *usual_input(f"timm/{name}", 3))
    classifier = AlignedClassifier(Classifier(net, spec), np.arange(K), "vwxyz")
    image = np.random.default_rng(0).integers(0, 256, (101, 150, 3)).astype(np.uint8)
    images = ImageSet(["a"], np.zeros(1, dtype=np.int64), lambda _: image)
    measure(images, classifier, temperature=1.0, top_k=None)
    measure_images(images, classifier, 1, 0, lambda _: None)
    data = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    wanted = timm.data.create_transform(**data)(Image.fromarray(image))
    for seen in net.seen:
        torch.testing.assert_close(seen, wanted[None], atol=1e-5, rtol=0)
    assert len(net.seen) == 2
