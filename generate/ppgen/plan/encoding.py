"""The image formats a plan can ask for."""

from __future__ import annotations

from typing import Any, Literal, get_args

from ppcore.errors import UserError

ImageFormat = Literal["jpg", "png", "webp"]
FORMATS: tuple[ImageFormat, ...] = get_args(ImageFormat)
LOSSLESS_UP_TO = (
    64  # pixels a side; below it JPEG's 8x8 blocks are large against the picture and a PNG costs little
)
_JPEG = {"format": "jpg", "quality": 95, "subsampling": "444"}
_PNG = {"format": "png", "level": 6}
_WEBP = {"format": "webp", "quality": 95}


def choose_encoding(image_format: str, resolution: int) -> dict[str, Any]:
    """The plan's `encoding` for `auto`, `jpg`, `png` or `webp`.

    Raises:
        UserError: another format.
    """
    if image_format == "auto":
        image_format = "png" if resolution <= LOSSLESS_UP_TO else "jpg"
    known = {"jpg": _JPEG, "png": _PNG, "webp": _WEBP}
    if image_format not in known:
        raise UserError(f"unknown image format {image_format!r}; choose auto, {', '.join(FORMATS)}")
    return dict(known[image_format])
