"""Letters as training pictures: white on black, 32x32, with the variations of printing, scanning and slanted writing."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageFont
from scipy import ndimage

from ppcore.seeds import numpy_rng
from tools.kits.letters.fonts import CLASS_NAMES, Font, boxed, draw, held_out_families, letters_of

SIDE, FINE, LONGEST = 32, 64, 50
_FACE_PIXELS = 96
HANDWRITTEN_WEIGHT = 4.0
Glyphs = dict[tuple[int, str], np.ndarray]
"""(font position, letter) -> uint8 (FINE, FINE)."""


def render_sets(
    fonts: Sequence[Font], work: Path, train: int, test: int, seed: int = 0, processes: int = 2
) -> None:
    """Write train_x.npy uint8 (N, 32, 32), train_y.npy uint8 (N,), train_f.npy uint16 (N,), the line of
    train_fonts.txt that names the font; and test_*, of held-out families alone, every family equally often.

    Files that exist are kept.
    """
    held = held_out_families(list(fonts))
    for name, count, inside in (("train", train, False), ("test", test, True)):
        if (work / f"{name}_x.npy").exists():
            continue
        chosen = [font for font in fonts if (font.family in held) is inside]
        boost = 1.0 if inside else HANDWRITTEN_WEIGHT
        pictures, labels, positions = render(chosen, count, seed, name, boost=boost, processes=processes)
        np.save(work / f"{name}_y.npy", labels)
        np.save(work / f"{name}_f.npy", positions)
        listing = "".join(f"{font.family}\t{font.package}\t{font.path.name}\n" for font in chosen)
        (work / f"{name}_fonts.txt").write_text(listing)
        np.save(work / f"{name}_x.npy", pictures)


def render(
    fonts: Sequence[Font], count: int, seed: int, label: str, *, boost: float, processes: int = 2
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`count` pictures with balanced classes: uint8 (count, 32, 32), class uint8 (count,), font position uint16 (count,).

    Picture i depends on (seed, label, i) and the font list alone, not on the number of processes.
    """
    chunks = np.array_split(np.arange(count), processes * 8)
    jobs = [(list(fonts), chunk, seed, label, boost) for chunk in chunks]
    with ProcessPoolExecutor(processes) as pool:
        parts = list(pool.map(_render_chunk, jobs))
    pictures, labels, positions = (np.concatenate(column) for column in zip(*parts, strict=True))
    return pictures, labels, positions


def family_weights(fonts: Sequence[Font], boost: float) -> np.ndarray:
    """Probability of every font: families equal, handwritten ones `boost` times as likely, cuts share their family's part."""
    families = [font.family for font in fonts]
    weights = np.array([(boost if font.handwritten else 1.0) / families.count(font.family) for font in fonts])
    return weights / weights.sum()


def _render_chunk(
    job: tuple[list[Font], np.ndarray, int, str, float],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    fonts, indices, seed, label, boost = job
    glyphs: Glyphs = {}
    weights = family_weights(fonts, boost)
    pictures = np.empty((len(indices), SIDE, SIDE), np.uint8)
    labels = (indices % len(CLASS_NAMES)).astype(np.uint8)
    positions = np.empty(len(indices), np.uint16)
    for row, index in enumerate(indices):
        rng = numpy_rng(seed, label, int(index))
        position = int(rng.choice(len(fonts), p=weights))
        letters = letters_of(int(labels[row]))
        letter = letters[int(rng.integers(len(letters)))]
        if (position, letter) not in glyphs:
            glyphs[position, letter] = _glyph(fonts[position], letter)
        pictures[row] = vary(glyphs[position, letter], rng)
        positions[row] = position
    return pictures, labels, positions


def _glyph(font: Font, letter: str) -> np.ndarray:
    picture = draw(ImageFont.truetype(str(font.path), _FACE_PIXELS), letter)
    assert picture is not None, "fonts with empty letters were filtered out"
    return boxed(picture, FINE, LONGEST)


def vary(glyph: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One random picture of a glyph: uint8 (64, 64) -> uint8 (32, 32).

    Stroke width, rotation +-0.18 rad, shear, scale, shift, a mild elastic field, blur by a low resolution on half, then a
    2x2 average.
    """
    picture = glyph.astype(np.float32)
    stroke = rng.integers(0, 6)
    if stroke >= 4:  # heavier
        picture = ndimage.maximum_filter(picture, size=3 if stroke == 4 else 5)
    elif stroke == 3 and picture.mean() > 28:  # lighter, where the strokes are thick enough to survive it
        picture = ndimage.minimum_filter(picture, size=3)
    picture = _warp(picture, rng)
    if rng.random() < 0.5:
        picture = _coarsen(picture, int(rng.integers(10, 17)))
    fine = picture.reshape(SIDE, 2, SIDE, 2).mean(axis=(1, 3))
    peak = max(float(fine.max()), 1.0)
    fine *= rng.uniform(0.85, 1.0) * 255 / peak  # thin strokes lose their brightness in the averaging
    return np.clip(np.round(fine), 0, 255).astype(np.uint8)


def _warp(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Affine map and elastic field in one bilinear resampling, float32 (64, 64)."""
    angle, shear = rng.uniform(-0.18, 0.18), rng.uniform(-0.25, 0.25)
    scale = np.exp(rng.uniform(-0.18, 0.12, size=2))
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = np.array([[cos, -sin], [sin, cos]]) @ np.array([[1.0, 0.0], [shear, 1.0]]) / scale
    centre = (FINE - 1) / 2
    grid = np.mgrid[0:FINE, 0:FINE].reshape(2, -1) - centre - rng.uniform(-4, 4, size=(2, 1))
    source = matrix @ grid + centre
    coarse = rng.normal(0.0, rng.uniform(0.0, 1.6), size=(2, 5, 5))
    field = [
        np.asarray(Image.fromarray(c.astype(np.float32)).resize((FINE, FINE), Image.Resampling.BICUBIC))
        for c in coarse
    ]
    source += np.stack(field).reshape(2, -1)
    return ndimage.map_coordinates(picture, source, order=1, mode="constant").reshape(FINE, FINE)


def _coarsen(picture: np.ndarray, low: int) -> np.ndarray:
    """Through `low` x `low` pixels and back, float32."""
    small = Image.fromarray(picture).resize((low, low), Image.Resampling.BOX)
    back = np.asarray(small.resize((FINE, FINE), Image.Resampling.BICUBIC))
    return np.clip(back, 0, 255)
