"""The letters that the kit has learnt from, as an image bank: what PP on real images would give (recipe `letters-networks`).

    python -m tools.kits.letters.bank --out data/letters      data/letters/CLASS/NUMBER.png, 32x32, grey

The fonts are those of the kit's training pictures, and so is every picture: the first ones of the same sequence.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from tools.kits.letters import fonts, render


def write_bank(out: Path, work: Path, per_class: int) -> None:
    """Write `per_class` pictures of every class below `out`. Raises UserError when the fonts cannot be had."""
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
    parser = argparse.ArgumentParser(
        prog="python -m tools.kits.letters.bank",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("data/letters"), help="folder of the pictures")
    parser.add_argument("--work", type=Path, default=Path("runs/letters-kit"), help="downloads")
    parser.add_argument("--per-class", type=int, default=960)
    options = parser.parse_args()
    write_bank(options.out, options.work, options.per_class)


if __name__ == "__main__":
    main()
