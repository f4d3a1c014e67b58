"""The sampling option `noise`: what older plans mean is not said, and counters give each sample its own values wherever they are made."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_models import FEW_STEPS, one_hot, save_families

from ppcore.errors import UserError
from ppcore.philox import PhiloxNoise
from ppgen.generators import load_generator
from ppgen.generators.biggan.network import truncated_normal


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_families(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("family", sorted(FEW_STEPS))
def test_counters_make_other_images_that_depend_on_the_seed_alone(
    folders: dict[str, Path], family: str
) -> None:
    plain, named, counted = (
        load_generator(str(folders[family]), sampling={**FEW_STEPS[family], **more})
        for more in ({}, {"noise": "cpu"}, {"noise": "philox"})
    )
    assert plain.describe() == named.describe()
    assert "noise" not in plain.describe()["sampling"]
    assert counted.describe()["sampling"].pop("noise") == "philox"
    condition, seeds = one_hot([0, 1, 2], 7), torch.tensor([5, 2**62 + 1, 5])
    images = counted.sample(condition, seeds)
    assert torch.equal(plain.sample(condition, seeds), named.sample(condition, seeds))
    assert not torch.equal(images, plain.sample(condition, seeds))
    assert torch.equal(images, counted.sample(condition, seeds))
    alone = counted.sample(condition[1:2], seeds[1:2])
    assert int((alone[0].int() - images[1].int()).abs().max()) <= 1


def test_the_latent_is_the_published_generator_s(folders: dict[str, Path]) -> None:
    generator = load_generator(str(folders["consistency"]), sampling={"noise": "philox"})
    seen = []
    generator._solve = lambda denoise, x, path, draw: seen.append(x) or x  # type: ignore[attr-defined]
    seeds = torch.tensor([1, 2])
    generator.sample(one_hot([0, 1], 7), seeds)
    start = generator.schedule.start  # type: ignore[attr-defined]
    assert torch.equal(seen[0], start * PhiloxNoise(seeds).randn(generator._network.shape))  # type: ignore[attr-defined]


def test_truncated_noise_is_the_truncated_normal() -> None:
    """Quantile for quantile what the other way of cutting makes of the same uniform numbers."""
    seeds = torch.arange(4)
    cut = PhiloxNoise(seeds).randn((4096,), cut=2.0)
    assert float(cut.abs().max()) <= 2.0
    torch.testing.assert_close(
        cut, truncated_normal(PhiloxNoise(seeds).randn((4096,)), 1.0), rtol=0, atol=2e-5
    )


def test_an_unknown_kind_of_noise_is_refused(folders: dict[str, Path]) -> None:
    for folder in folders.values():
        with pytest.raises(UserError, match="choose cpu or philox"):
            load_generator(str(folder), sampling={"noise": "cuda"})
