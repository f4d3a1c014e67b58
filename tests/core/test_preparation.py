"""Images as networks get them, beside the transforms that torchvision and timm publish for those networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from timm.data import create_transform, resolve_data_config
from torch import nn

from ppcore.classifiers import Classifier, ClassifierSpec, build, load_classifier, usual_input
from ppcore.images import Preparation

Photographs = dict[str, np.ndarray]

NETWORKS = (
    "resnet50",
    "efficientnet_b1",
    "efficientnet_b3",
    "mobilenet_v3_large",
    "vit_b_16",
    "vit_l_16",
    "swin_t",
    "swin_v2_t",
    "convnext_tiny",
    "inception_v3",
    "timm/vit_tiny_patch16_224",
    "timm/beit_base_patch16_224",
    "timm/convnext_tiny.in12k_ft_in1k_384",  # squash
    "timm/efficientnet_b3",
    "timm/tf_efficientnetv2_b0",
    "timm/mobilenetv4_conv_small",
    "timm/deit3_small_patch16_224",
    "timm/resnet50",
    "timm/eva02_base_patch14_448.mim_in22k_ft_in1k",
    "timm/tiny_vit_21m_512.dist_in22k_ft_in1k",  # squash
    "timm/volo_d4_448",  # resized to less than its input: a black frame
    "timm/vit_so400m_patch14_siglip_378.webli_ft_in1k",  # squash
    "timm/deepseek_vit_412m.deepseek_v4_flash_vision_exp",  # border
)
SOME = (
    "resnet50",
    "swin_t",
    *(name for name in NETWORKS if "384" in name or "volo" in name),
)


def transform_of(name: str) -> tuple[Any, tuple[float, ...], tuple[float, ...]]:
    """(the library's own transform, mean, std)."""
    if name.startswith("timm/"):
        published = timm.get_pretrained_cfg(name.removeprefix("timm/"))
        assert published is not None
        data = resolve_data_config(pretrained_cfg=published.to_dict())
        return create_transform(**data), data["mean"], data["std"]
    view = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    return view, view.mean, view.std


def levels(x: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """Normalised images -> levels from 0 to 255."""
    return (x * torch.tensor(std).view(-1, 1, 1) + torch.tensor(mean).view(-1, 1, 1)) * 255


@pytest.fixture(scope="module")
def photographs() -> Photographs:
    """Smooth fields of colour with hard edges: uint8 (H, W, 3)."""
    random, made = np.random.default_rng(0), {}
    for name, (width, height) in {
        "landscape": (640, 427),
        "portrait": (427, 640),
        "large": (4000, 3000),
    }.items():
        coarse = Image.fromarray(random.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        image = np.array(coarse.resize((width, height), Image.Resampling.BICUBIC))
        for _ in range(40):
            y, x = random.integers(0, height - 20), random.integers(0, width - 20)
            image[y : y + height // 9, x : x + width // 30] = random.integers(0, 256, 3)
        made[name] = image
    return made


@pytest.mark.parametrize("name", NETWORKS)
def test_pixels_are_those_of_the_transform_published_with_the_network(
    name: str, photographs: Photographs
) -> None:
    transform, mean, std = transform_of(name)
    usual = usual_input(name, 3)
    assert (usual.mean, usual.std) == (tuple(mean), tuple(std))
    spec = ClassifierSpec(name, ("a",), 3, *usual)
    for image in photographs.values():
        wanted = levels(transform(Image.fromarray(image)), mean, std)
        assert np.abs(spec.preparation.fit(image) - wanted.numpy()).max() < 1e-3


@pytest.mark.parametrize("name", SOME)
def test_batches_of_samples_get_the_pixels_of_the_transform_on_tensors(
    name: str, photographs: Photographs
) -> None:
    transform, mean, std = transform_of(name)
    spec = ClassifierSpec(name, ("a",), 3, *usual_input(name, 3))
    batch = torch.from_numpy(photographs["landscape"]).permute(2, 0, 1)[None]
    found = levels(Classifier(nn.Identity(), spec).preprocess(batch), mean, std)
    if name.startswith("timm/"):
        *steps, _, _ = transform.transforms  # the last ones, which normalise, take no bytes
        wanted = torchvision.transforms.Compose(steps)(batch).float()
    else:
        wanted = levels(transform(batch), mean, std)
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", ["squeezenet1_1", "timm/test_vit.r160_in1k", "timm/test_resnet"])
def test_a_state_dict_gets_the_input_of_its_architecture(
    name: str, tmp_path: Path, photographs: Photographs
) -> None:
    file = tmp_path / "w.pth"
    torch.save(build(name, 1000).state_dict(), file)
    classifier = load_classifier(f"{name}@{file}")
    transform, mean, std = transform_of(name)
    assert (classifier.spec.mean, classifier.spec.std) == (tuple(mean), tuple(std))
    image = photographs["portrait"]
    prepared = torch.from_numpy(classifier.spec.preparation.fit(image))[None]
    wanted = transform(Image.fromarray(image))[None]
    torch.testing.assert_close(classifier.whole().preprocess(prepared), wanted, atol=1e-5, rtol=0)


def test_a_border_has_the_mean_colour(photographs: Photographs) -> None:
    """torchvision pads no tensors with a colour, so the batch is compared with Pillow, at a size that needs no resizing."""
    image, name = photographs["landscape"][:300, :392], "timm/deepseek_vit_412m.deepseek_v4_flash_vision_exp"
    spec = ClassifierSpec(name, ("a",), 3, *usual_input(name, 3))
    fitted = spec.preparation.fit(image)
    assert (fitted[:, :46] == 128).all()
    batch = torch.from_numpy(image).permute(2, 0, 1)[None]
    found = levels(Classifier(nn.Identity(), spec).preprocess(batch)[0], spec.mean, spec.std)
    torch.testing.assert_close(found, torch.from_numpy(fitted).float(), atol=1e-3, rtol=0)


def test_grey_images_are_shortened_and_cropped() -> None:
    image = np.zeros((20, 40, 3), dtype=np.uint8)
    image[:, 10:30] = 200
    assert (Preparation(20, 3).fit(image)[:, 5, :] == 200).all()
    assert Preparation(8, 1).fit(image).shape == (1, 8, 8)
    assert (Preparation(8, 3).fit(image[:, :, :1]) == Preparation(8, 1).fit(image)).all()
