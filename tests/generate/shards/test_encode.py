from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from ppcore.errors import UserError
from ppcore.images import decode
from ppgen.options import ShardOptions
from ppgen.plan.build import choose_encoding
from ppgen.shards.pack import TarBuffer, entropy, make_encoder


def picture(channels: int, side: int) -> np.ndarray:
    """A smooth uint8 (C, H, W) gradient with some noise."""
    rng = np.random.default_rng(channels * side)
    ramp = np.linspace(0, 200, side)[None, None, :] + np.linspace(0, 40, side)[None, :, None]
    return (ramp + rng.integers(0, 15, (channels, side, side))).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [32, 80])
def test_png_is_lossless_for_any_reader(channels: int, side: int) -> None:
    image = picture(channels, side)
    data = make_encoder(choose_encoding("png", side))(image)
    opened = Image.open(io.BytesIO(data))
    opened.verify()
    assert (decode(data, channels=channels) == image.transpose(1, 2, 0)).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("image_format", ["jpg", "webp"])
def test_lossy_formats_are_close_and_repeatable(channels: int, image_format: str) -> None:
    image = picture(channels, 64)
    encode = make_encoder(choose_encoding(image_format, 64))
    data = encode(image)
    assert data == encode(image)
    back = decode(data, channels=channels).astype(float)
    assert np.abs(back - image.transpose(1, 2, 0)).mean() < 6


def test_jpeg_keeps_full_colour_resolution() -> None:
    data = make_encoder(choose_encoding("jpg", 256))(picture(3, 64))
    opened = Image.open(io.BytesIO(data))
    assert opened.layer == [(1, 1, 1, 0), (2, 1, 1, 1), (3, 1, 1, 1)]  # type: ignore[attr-defined]


def test_auto_format_and_unknown_format() -> None:
    assert choose_encoding("auto", 64)["format"] == "png"
    assert choose_encoding("auto", 128) == {"format": "jpg", "quality": 95, "subsampling": "444"}
    with pytest.raises(UserError, match=r"unknown --format 'gif'"):
        ShardOptions(image_format="gif")


def test_tar_is_plain_ustar_without_clock_or_owner() -> None:
    tar = TarBuffer()
    offsets = {
        "000000001.png": tar.add("000000001.png", b"x" * 700),
        "000000001.cls": tar.add("000000001.cls", b"3"),
    }
    data = tar.close()
    assert len(data) % tarfile.RECORDSIZE == 0
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            assert (member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "")
            assert member.offset_data == offsets[member.name]
            assert (
                data[member.offset_data : member.offset_data + member.size]
                == archive.extractfile(member).read()
            )


def test_entropy_of_one_hot_is_exactly_zero() -> None:
    rows = np.array([[1, 0, 0], [0.5, 0.5, 0]], dtype=np.float32)
    values = entropy(rows)
    assert values[0] == 0
    assert not np.signbit(values[0])
    assert np.isclose(values[1], np.log(2))
