"""Builds the embedded kit `letters` from free fonts.

    python -m tools.kits.letters.build --work DIR --out core/ppcore/embedded/letters

Every step stores its result in the work folder, and is skipped if the result exists.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tools.kits import flow
from tools.kits.arguments import new_parser
from tools.kits.letters import classifier, fonts, package, render

TRAIN, TEST = 120_000, 20_000
CLASSIFIER_STEPS, FLOW_STEPS, GUIDANCE_STEPS = 3_000, 4_000, 500
GUIDANCE_WEIGHT = 0.5


@dataclass(frozen=True)
class Pictures:
    """Rendered letters: uint8 (N, 32, 32) and classes uint8 (N,); test families are unknown to training."""

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    test_f: np.ndarray
    """uint16 (N,): line of test_fonts.txt that names the picture's font."""


def pictures(work: Path) -> Pictures:
    """The rendered letters. Downloads the fonts and renders them if the files do not exist."""
    names = ("train_x", "train_y", "test_x", "test_y", "test_f")
    if not all((work / f"{name}.npy").exists() for name in names):
        usable = fonts.usable_fonts(fonts.fetch(work))
        (work / "fonts.txt").write_text("\n".join(describe(usable, work)) + "\n")
        render.render_sets(usable, work, TRAIN, TEST)
    return Pictures(*(np.load(work / f"{name}.npy") for name in names))


def describe(usable: list[fonts.Font], work: Path) -> list[str]:
    """One line for each package for the card of the kit: its families and declared licences."""
    held = fonts.held_out_families(usable)
    rows = []
    for name in sorted({font.package for font in usable}):
        families = sorted({font.family for font in usable if font.package == name})
        shown = ", ".join(f"{family} (held out)" if family in held else family for family in families)
        rows.append(f"| {name} | {shown} | {', '.join(fonts.licences(work / 'fonts' / name))} |")
    return rows


def build(work: Path, out: Path) -> None:
    """Make pictures, classifier and generator, and write the kit."""
    work.mkdir(parents=True, exist_ok=True)
    real = pictures(work)
    train = functools.partial(classifier.train_classifier, classifier.new_small(), real.train_x, real.train_y)
    blank = functools.partial(flow.build_unet, classifier.NUM_CLASSES)
    source = kept(work / "classifier.pt", classifier.new_small(), lambda: train(CLASSIFIER_STEPS))
    base = kept(
        work / "flow.pt",
        blank(),
        lambda: flow.train_flow(
            real.train_x, real.train_y, FLOW_STEPS, net=blank(), checkpoint=work / "flow-checkpoint.pt"
        ),
    )
    baked = kept(
        work / "baked.pt",
        blank(),
        lambda: flow.bake_guidance(base, real.train_x, real.train_y, GUIDANCE_STEPS, weight=GUIDANCE_WEIGHT),
    )
    package.write_kit(out, baked, source)
    print(f"{out}: {package.size_of(out) / 1e6:.2f} MB")


def kept(path: Path, net: nn.Module, make: Callable[[], nn.Module]) -> nn.Module:
    """`net` with the weights stored at `path`. If the file does not exist, `make` trains them and they are stored."""
    if not path.exists():
        torch.save(make().state_dict(), path)
    net.load_state_dict(torch.load(path, weights_only=True))
    return net.eval()


def main() -> None:
    """Command line."""
    parser = new_parser("letters.build", __doc__)
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("runs/letters-kit"),
        help="folder of downloads, pictures and checkpoints",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("core/ppcore/embedded/letters"), help="directory of the kit"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    build(options.work, options.out)


if __name__ == "__main__":
    main()
