"""Images of a page: strips and sheets of samples, as data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

SIDE = 64  # pixels of an image on the page
_GAP = 2


def strip(images: Sequence[np.ndarray], side: int = SIDE) -> str:
    """uint8 (H, W, C) images side by side, as a data URI."""
    return sheet(images, len(images), side)


def sheet(images: Sequence[np.ndarray], columns: int, side: int = SIDE) -> str:
    """uint8 (H, W, C) images in rows of `columns`, as a data URI.

    Pictures of a few pixels, letters say, are kept exact in a PNG; larger ones shrink to thumbnails in a lossy WebP, a tenth of
    the page. The gaps are transparent, since pages are light or dark.
    """
    rows = -(-len(images) // columns)
    mode = "LA" if all(image.shape[2] == 1 for image in images) else "RGBA"
    paper = Image.new(mode, (columns * (side + _GAP) - _GAP, rows * (side + _GAP) - _GAP))
    for position, image in enumerate(images):
        picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).convert(mode)
        row, column = divmod(position, columns)
        small = picture.resize((side, side), Image.Resampling.LANCZOS)
        paper.paste(small, (column * (side + _GAP), row * (side + _GAP)))
    exact = max((max(image.shape[:2]) for image in images), default=0) <= SIDE
    buffer = io.BytesIO()
    if exact:
        paper.save(buffer, "PNG")
    else:
        paper.save(buffer, "WEBP", quality=85)
    kind = "png" if exact else "webp"
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode()
