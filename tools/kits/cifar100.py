r"""Builds a kit of natural images: a flow of 100 classes in colour, trained on CIFAR-100, and a classifier of the same classes.

    python -m tools.kits.cifar100 --data "train=data/cifar/cifar100-train-*.parquet,test=data/cifar/cifar100-test.parquet" \
        --classifier runs/cifar100-classifier --steps 20000

The classifier is a run or model directory of pptrain; the first lines of the recipe `cifar` have its command. After an interruption the
same command resumes from the last checkpoint. The authors of CIFAR-100 state no licence, so the kit is for research only and the
package does not contain its weights.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ppcore.targets import ImageSet, load_target
from pptrain.models import choose_device
from tools.kits import flow
from tools.kits.arguments import new_parser
from tools.kits.letters.package import write_generator

WIDTHS = (64, 128, 192)
STEPS = 8
"""Network evaluations for each image."""
GUIDANCE = 1.0


def pictures(images: ImageSet) -> np.ndarray:
    """All images, uint8 (N, 32, 32, 3)."""
    return np.stack([images.image(position) for position in range(len(images))])


def build(
    data: str,
    classifier: Path,
    out: Path,
    steps: int,
    guidance_steps: int,
    *,
    batch: int = 128,
    device: str = "cpu",
) -> None:
    """Train the flow and its guidance, write the kit. Raises UserError if the data cannot be read or the device does not exist."""
    target = load_target(data)
    x, y = pictures(target.train), target.train.labels
    out.mkdir(parents=True, exist_ok=True)
    net = flow.build_unet(len(target.classes), 3, WIDTHS).to(choose_device(device))
    base = flow.train_flow(x, y, steps, net=net, batch=batch, flip=True, checkpoint=out / "checkpoint.pt")
    baked = flow.bake_guidance(base, x, y, guidance_steps, batch=batch, weight=GUIDANCE)
    write_generator(out / "generator", baked.cpu())
    shutil.copytree(classifier, out / "classifier", dirs_exist_ok=True)
    (out / "kit.json").write_text(
        json.dumps(description(list(target.classes)), indent=1) + "\n", encoding="utf-8"
    )


def description(class_names: list[str]) -> dict[str, Any]:
    """Content of kit.json."""
    return {
        "name": "cifar100",
        "family": "unet",
        "generator": "generator",
        "classifier": "classifier",
        "class_names": class_names,
        "licence": "unknown",
        "commercial": False,
        "revision": "1",
        "sampling": {"solver": "flow_euler", "steps": STEPS, "guidance": 1.0, "patch": flow.PATCH},
        "resolution": 32,
        "channels": 3,
        "image_format": "png",
        "description": f"rectified flow trained from CIFAR-100, {len(class_names)} classes, 32x32 colour",
    }


def main() -> None:
    """Command line."""
    parser = new_parser("cifar100", __doc__)
    parser.add_argument("--data", required=True, help="the images, as for pptrain run --target")
    parser.add_argument(
        "--classifier",
        type=Path,
        required=True,
        help="run or model directory of pptrain, classifier of the kit",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/cifar100-kit"), help="directory of the kit")
    parser.add_argument("--steps", type=int, default=20_000, help="training steps of the flow")
    parser.add_argument("--batch", type=int, default=128, help="images a step; a GPU has room for 1024")
    parser.add_argument("--guidance-steps", type=int, default=500, help="training steps of the guidance")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of PyTorch")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = options.classifier / "model" if (options.classifier / "model").is_dir() else options.classifier
    build(
        options.data,
        model,
        options.out,
        options.steps,
        options.guidance_steps,
        batch=options.batch,
        device=options.device,
    )


if __name__ == "__main__":
    main()
