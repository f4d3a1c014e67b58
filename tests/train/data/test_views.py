"""Views: repeatable, of the right kind, and without effect at zero strength."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pptrain.config.settings import ViewsConfig
from pptrain.data.transforms import _resize_bytes, _resize_products, box_spans, cutout_, sample
from pptrain.data.views import ViewKey, ViewKind, Views

KEY = ViewKey("x", 0)


def images(channels: int = 1, side: int = 16, count: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("kind", ViewKind)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("crop", ["shift", "resized"])
def test_views_repeat_and_differ_by_step(kind: ViewKind, channels: int, crop: str) -> None:
    views = Views(ViewsConfig(crop=crop), 16, channels, seed=5)
    u = images(channels)
    x = views.make(u, kind, ViewKey("x", 3))
    assert x.shape == (64, channels, 16, 16)
    assert x.dtype == torch.float32
    assert x.min() >= 0.0
    assert x.max() <= 1.0
    assert torch.equal(x, views.make(u, kind, ViewKey("x", 3)))
    if kind is not ViewKind.NONE:
        assert not torch.equal(x, views.make(u, kind, ViewKey("x", 4)))
        assert not torch.equal(x, views.make(u, kind, ViewKey("y", 3)))
        assert not torch.equal(
            x, Views(ViewsConfig(crop=crop), 16, channels, seed=6).make(u, kind, ViewKey("x", 3))
        )


@pytest.mark.parametrize("kind", ViewKind)
def test_a_network_for_colour_gets_grey_images_in_three_channels(kind: ViewKind) -> None:
    views, grey = Views(ViewsConfig(), 16, 3, seed=5), images(1)
    x = views.make(grey, kind, KEY)
    assert torch.equal(x, views.make(grey.expand(-1, 3, -1, -1).contiguous(), kind, KEY))


def test_weak_view_only_shifts_and_never_mirrors_grey_images() -> None:
    u = images()
    x = (Views(ViewsConfig(), 16, 1, 0).make(u, ViewKind.WEAK, KEY) * 255).round().to(torch.uint8)
    padded = torch.nn.functional.pad(u, (2, 2, 2, 2))
    for before, after in zip(padded, x, strict=True):
        places = [(i, j) for i in range(5) for j in range(5)]
        assert any(torch.equal(before[:, i : i + 16, j : j + 16], after) for i, j in places)


def test_flip_is_a_setting() -> None:
    u = images(3)
    still = ViewsConfig(shift=0.0, flip=False)
    plain = u.float() / 255
    assert torch.equal(Views(still, 16, 3, 0).make(u, ViewKind.WEAK, KEY), plain)
    flipped = Views(ViewsConfig(shift=0.0), 16, 3, 0).make(u, ViewKind.WEAK, KEY)  # on for colour by default
    mirrored = [not torch.equal(a, b) for a, b in zip(flipped, plain, strict=True)]
    assert 15 < sum(mirrored) < 50
    for after, before, is_mirror in zip(flipped, plain, mirrored, strict=True):
        assert torch.equal(after, before.flip(2) if is_mirror else before)


def test_strong_view_without_strength_is_the_image() -> None:
    still = ViewsConfig(shift=0, rotate=0, shear=0, zoom=0, color=0, cutout=0)
    u = images()
    torch.testing.assert_close(
        Views(still, 16, 1, 0).make(u, ViewKind.STRONG, KEY), u.float() / 255, atol=1e-5, rtol=0
    )


def test_colour_map() -> None:
    still = ViewsConfig(shift=0, rotate=0, shear=0, zoom=0, cutout=0, flip=False)
    grey = torch.full((8, 3, 16, 16), 128, dtype=torch.uint8)
    changed = Views(still, 16, 3, 0).make(grey, ViewKind.STRONG, KEY)  # hue and saturation leave grey alone
    torch.testing.assert_close(changed[:, 0], changed[:, 1], atol=1e-3, rtol=0)
    assert changed[:, :, 8, 8].std() > 0.01
    red = torch.zeros(8, 3, 16, 16, dtype=torch.uint8)
    red[:, 0] = 200
    turned = Views(still, 16, 3, 0).make(red, ViewKind.STRONG, KEY)[:, :, 8, 8]
    assert (turned[:, 0] > turned[:, 1:].amax(1)).all()  # still red
    assert turned.std(0).min() > 0.01  # but not the same red


@pytest.mark.parametrize("side", [20, 96])
def test_cutout_erases_one_square_of_bounded_area(side: int) -> None:
    x = torch.ones(200, 1, side, side)
    holes = torch.rand(3, 200, generator=torch.Generator().manual_seed(0))
    holes[0] *= 0.25
    cutout_(x, holes)
    erased = (x == 0.5).float().mean((1, 2, 3))
    assert erased.max() <= 0.26
    assert erased.mean() > 0.03


def test_empty_batch_and_other_sizes() -> None:
    views = Views(ViewsConfig(), 16, 1, 0)
    for kind in ViewKind:
        assert views.make(images()[:0], kind, KEY).shape == (0, 1, 16, 16)
        assert views.make(images(side=20), kind, KEY).shape == (64, 1, 16, 16)


def test_sampling_grid_is_affine_grid() -> None:
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(4, 2, 3, generator=generator)
    u = images(3, side=20, count=4)
    grid = torch.nn.functional.affine_grid(matrices, [4, 3, 16, 16], align_corners=False)
    expected = torch.nn.functional.grid_sample(u.float(), grid, align_corners=False)
    torch.testing.assert_close(sample(u, matrices, 16), expected, atol=0.05, rtol=0)


def test_crops_resized_as_bytes_agree_with_sampling() -> None:
    ramp = torch.arange(96).view(1, 1, 1, 96).expand(8, 3, 96, 96)
    smooth = (ramp + ramp.transpose(2, 3)).to(torch.uint8).contiguous()
    views = Views(ViewsConfig(crop="resized"), 80, 3, seed=1)
    crop = views._resized_crop(8, torch.Generator().manual_seed(0))
    sizes, mirror = torch.full((8, 2), 80), crop[:, 0, 0] < 0
    fast = _resize_bytes(smooth, box_spans(crop, 96, 96), sizes, [80, 80], mirror) / 255
    sampled = sample(smooth, crop, 80) / 255
    inner = (
        slice(None),
        slice(None),
        slice(3, -3),
        slice(3, -3),
    )  # the border of grid_sample blends with zero
    torch.testing.assert_close(fast[inner], sampled[inner], atol=0.02, rtol=0)


def test_a_gpu_resizes_to_the_pixels_of_a_cpu() -> None:
    """The products that a GPU computes, and the bytes that a CPU computes, differ by rounding."""
    u, generator = images(3, side=50, count=40), torch.Generator().manual_seed(1)
    low = torch.randint(0, 25, (40, 2, 1), generator=generator)
    spans = torch.cat([low, low + torch.randint(1, 26, (40, 2, 1), generator=generator)], 2)
    sizes = torch.randint(1, 31, (40, 2), generator=generator)
    sizes[:20], mirror = 30, torch.arange(40) % 20 < 7
    mirror[20:] = False
    cpu, gpu = (render(u, spans, sizes, [30, 30], mirror) for render in (_resize_bytes, _resize_products))
    assert (cpu - gpu).abs().max() <= 1
    assert (cpu - gpu).abs().mean() < 0.1
    assert len(torch.unique(spans[:, :, 1] - spans[:, :, 0])) > 15


@pytest.mark.parametrize(("stored", "side"), [(256, 32), (128, 112)])
@pytest.mark.parametrize("crop", ["shift", "resized"])
@pytest.mark.parametrize("kind", ViewKind)
def test_larger_images_are_shrunk_with_antialiasing(
    kind: ViewKind, crop: str, stored: int, side: int
) -> None:
    """Noise of standard deviation 0.29 stays noise if single pixels are taken; a view of the whole image averages it."""
    config = ViewsConfig(crop=crop, min_area=1.0, rotate=0, shear=0, zoom=0, color=0, cutout=0, shift=0)
    x = Views(config, side, 3, 0).make(images(3, side=stored, count=8), kind, KEY)
    expected = 0.289 * 2 / 3 * side / stored  # of a triangle as wide as the images are reduced
    spread = x[:, :, 2:-2, 2:-2].std().item()
    assert 0.5 * expected < spread < 1.25 * expected


def test_a_shrunk_strong_view_is_that_of_the_small_image() -> None:
    u, config = images(3, side=96, count=8), ViewsConfig(crop="shift")
    small = torch.nn.functional.interpolate(u, size=32, mode="bilinear", antialias=True)
    views = Views(config, 32, 3, 0)
    assert torch.equal(views.make(u, ViewKind.STRONG, KEY), views.make(small, ViewKind.STRONG, KEY))


def test_the_plain_view_crops_as_an_evaluation() -> None:
    u, config = images(3, side=80, count=4), ViewsConfig(shift=0, flip=False, crop="shift")
    views = Views(config, 70, 3, 0, resize=80)
    centre = u[:, :, 5:75, 5:75].float() / 255
    assert torch.equal(views.make(u, ViewKind.NONE, KEY), centre)
    assert torch.equal(views.make(u, ViewKind.WEAK, KEY), centre)
    still = replace(config, rotate=0, shear=0, zoom=0, color=0, cutout=0)
    strong = replace(views, config=still).make(u, ViewKind.STRONG, KEY)
    torch.testing.assert_close(strong, centre, atol=1e-4, rtol=0)
    assert torch.equal(views.make(u[:, :, :70, :70], ViewKind.NONE, KEY), u[:, :, :70, :70].float() / 255)


@pytest.mark.parametrize("kind", [ViewKind.WEAK, ViewKind.STRONG])
def test_parts_change_nothing(kind: ViewKind, monkeypatch: pytest.MonkeyPatch) -> None:
    u = images(3, side=80, count=12)
    views = Views(ViewsConfig(crop="resized"), 72, 3, seed=1)
    whole = views.make(u, kind, KEY)
    monkeypatch.setattr("pptrain.data.views._PART_PIXELS", 5 * 72 * 72)
    assert torch.equal(whole, views.make(u, kind, KEY))
