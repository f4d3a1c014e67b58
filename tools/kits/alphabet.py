"""Renders a target that the letters kit has never seen: 88 characters of three alphabets, from free fonts.

    python -m tools.kits.alphabet --out data/alphabet      data/alphabet/{train,test}/CLASS/NUMBER.png, 32x32, grey

The characters are Georgian, Armenian capitals, and the small Greek letters that do not look like a Latin letter. The test images
have other fonts than the training images.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
from PIL import Image, ImageFont

from ppcore.seeds import numpy_rng
from tools.kits.arguments import new_parser
from tools.kits.letters import fonts
from tools.kits.letters.render import FINE, LONGEST, vary

CHARACTERS = (
    "".join(chr(code) for code in range(0x10D0, 0x10F1))  # Georgian, the 33 in use today
    + "".join(chr(code) for code in range(0x531, 0x557))  # Armenian capitals, 38
    + "αβγδεζηθλμξπσςφψω"
)
PACKAGES = {
    "train": ("fonts-dejavu-core", "fonts-dejavu-extra", "fonts-freefont-ttf"),
    "test": ("fonts-noto-core",),
}
"""Split -> Debian packages whose fonts draw its images. A font that lacks a character is not used for this character."""
COUNTS = {"train": 30, "test": 20}
"""Split -> images a class."""


def render(out: Path, work: Path, seed: int = 0) -> None:
    """Write both splits. Raises UserError if the fonts cannot be downloaded."""
    for split, packages in PACKAGES.items():
        folders = fonts.fetch(work, packages)
        faces = [
            ImageFont.truetype(str(path), 96)
            for package in packages
            for path in sorted(folders[package].rglob("*.ttf"))
            if not path.is_symlink()
        ]
        for character in CHARACTERS:
            glyphs = [fonts.boxed(glyph, FINE, LONGEST) for glyph in drawn(faces, character)]
            folder = out / split / name_of(character)
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(COUNTS[split]):
                rng = numpy_rng(seed, split, character, number)
                picture = vary(glyphs[int(rng.integers(len(glyphs)))], rng)
                Image.fromarray(picture).save(folder / f"{number:03}.png")


def drawn(faces: list[ImageFont.FreeTypeFont], character: str) -> list[np.ndarray]:
    """The character in every font that has it: uint8 (H, W) each."""
    found = []
    for face in faces:
        missing = bytes(face.getmask("\uffff"))
        glyph = None if bytes(face.getmask(character)) == missing else fonts.draw(face, character)
        if glyph is not None:
            found.append(glyph)
    return found


def name_of(character: str) -> str:
    """Name of a class: `armenian-capital-letter-ayb`."""
    return unicodedata.name(character).lower().replace(" ", "-")


def main() -> None:
    """Command line."""
    parser = new_parser("alphabet", __doc__)
    parser.add_argument("--out", type=Path, default=Path("data/alphabet"), help="folder of the images")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/letters-kit"), help="folder of the downloaded fonts"
    )
    options = parser.parse_args()
    render(options.out, options.work)


if __name__ == "__main__":
    main()
