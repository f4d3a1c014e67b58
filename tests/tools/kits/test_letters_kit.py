"""The letters kit inside the package: the properties that the demo relies on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ppcore.classifiers import Classifier, load_classifier
from ppcore.kits import EMBEDDED, get_kit
from ppcore.targets import load_target, stack
from tools.kits.letters import fonts, package

FOLDER = EMBEDDED / "letters"


@pytest.fixture(scope="module")
def source_classifier() -> Classifier:
    torch.set_num_threads(1)
    return load_classifier("letters")


def test_it_is_small() -> None:
    assert package.size_of(FOLDER) <= 8_000_000


def test_its_42_classes_agree_everywhere(source_classifier: Classifier) -> None:
    kit = get_kit("letters")
    assert len(fonts.CLASS_NAMES) == 42
    assert kit.class_names == source_classifier.spec.class_names == fonts.CLASS_NAMES
    assert len("".join(fonts.letters_of(k) for k in range(42))) == 52  # every letter belongs to one class


def test_stock_diffusers_classes_load_it() -> None:
    import diffusers

    unet = diffusers.UNet2DModel.from_pretrained(FOLDER / "generator" / "unet", torch_dtype=torch.float32)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler.from_pretrained(FOLDER / "generator" / "scheduler")
    assert unet.class_embedding.num_embeddings == 43  # the last row is the null label
    assert next(unet.parameters()).dtype == torch.float32
    assert scheduler.config.num_train_timesteps == 1000


def test_stock_sampling_makes_the_letters_asked_for(source_classifier: Classifier) -> None:
    """Unguided Euler steps on the UNet of the kit, with diffusers only."""
    import diffusers

    unet = diffusers.UNet2DModel.from_pretrained(
        FOLDER / "generator" / "unet", torch_dtype=torch.float32
    ).eval()
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler.from_pretrained(FOLDER / "generator" / "scheduler")
    steps = get_kit("letters").sampling["steps"]
    scheduler.set_timesteps(sigmas=[1 - i / steps for i in range(steps)])
    labels = torch.arange(42).repeat(4)
    x = torch.randn(len(labels), 4, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for t in scheduler.timesteps:
            x = scheduler.step(unet(x, t, class_labels=labels).sample, t, x).prev_sample
    images = (torch.pixel_shuffle(x, 2) * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
    agreement = (source_classifier(images).argmax(1) == labels).float().mean()
    assert agreement > 0.7


def test_the_product_samples_the_letters_asked_for(source_classifier: Classifier) -> None:
    """With ppgen and the sampler settings of kit.json; fails if classes are mixed up."""
    from ppgen.generators import load_generator

    generator = load_generator("letters", device="cpu")
    labels = torch.arange(42).repeat(4)
    images = generator.sample(torch.nn.functional.one_hot(labels, 42).float(), torch.arange(len(labels)))
    assert images.shape == (168, 1, 32, 32)
    agreement = (source_classifier(images).argmax(1) == labels).float().mean()
    assert agreement > 0.85


def test_at_most_eight_network_evaluations_an_image() -> None:
    from ppgen.generators import load_generator
    from ppgen.generators.parts.diffusion import DiffusionGenerator

    generator = load_generator("letters", device="cpu")
    assert isinstance(generator, DiffusionGenerator)
    assert generator.evaluations() <= 8


@pytest.mark.parametrize(("digit", "letter"), [(0, "O"), (2, "Z"), (5, "S")])
def test_digits_look_like_their_letters(source_classifier: Classifier, digit: int, letter: str) -> None:
    """The largest entry of the mean soft label of real digits is a similar letter, so that PCS is visible in the samples."""
    train = load_target("digits").train
    chosen = train.select(np.flatnonzero(train.labels == digit))
    with torch.inference_mode():
        mean = source_classifier(stack(chosen, 32, 1)).softmax(dim=1).mean(dim=0)
    assert fonts.CLASS_NAMES[int(mean.argmax())] == letter
    assert mean.max() > 2 * mean.topk(2).values[1]  # by a clear margin
