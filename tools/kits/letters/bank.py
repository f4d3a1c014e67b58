"""Writes the letters that the kit was trained on as an image bank, for pre-training on real images (recipe `letters-networks`).

    python -m tools.kits.letters.bank --out data/letters      data/letters/CLASS/NUMBER.png, 32x32, grey

The pictures are the first ones of the kit's training set, drawn again from the same fonts and seeds.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from tools.kits.arguments import new_parser
from tools.kits.letters import fonts, render


def write_bank(out: Path, work: Path, per_class: int) -> None:
    """Write `per_class` pictures of every class below `out`. Raises UserError if the fonts cannot be downloaded."""
    usable = fonts.usable_fonts(fonts.fetch(work))
    held = fonts.held_out_families(usable)
    chosen = [font for font in usable if font.family not in held]
    count = per_class * len(fonts.CLASS_NAMES)
    pictures, labels, _ = render.render(chosen, count, 0, "train", boost=render.HANDWRITTEN_WEIGHT)
    for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        folder = out / fonts.CLASS_NAMES[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{number:06}.png")


def main() -> None:
    """Command line."""
    parser = new_parser("letters.bank", __doc__)
    parser.add_argument("--out", type=Path, default=Path("data/letters"), help="folder of the pictures")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/letters-kit"), help="folder of the downloaded fonts"
    )
    parser.add_argument("--per-class", type=int, default=960, help="pictures a class")
    options = parser.parse_args()
    write_bank(options.out, options.work, options.per_class)


if __name__ == "__main__":
    main()
