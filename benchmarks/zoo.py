"""What works with which network: `python benchmarks/zoo.py --out zoo`; docs/reference/networks.md has the table.

Every network is built for its own resolution, pre-trained for two steps on shards, fine-tuned for two steps on other classes by
condition prediction and by UDA, killed after the first step and resumed (the weights must be those of the run that nobody killed),
evaluated, exported to ONNX and to torch-export, and evaluated again in onnxruntime (the accuracy must be the same). The weights are
random, so the accuracies mean nothing. Each network has a process of its own, so a crash costs one row. Rows are kept in `--out`: an
interrupted run continues, and a row is made again if its file is deleted. At the end the table is printed as Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from PIL import Image
from safetensors import safe_open

HERE = Path(__file__).parent
PAPER = "resnet18 resnet50 wide_resnet50_2 mnasnet1_0 mobilenet_v3_large efficientnet_b0"
TORCHVISION = (
    "alexnet convnext_tiny densenet121 efficientnet_v2_s googlenet inception_v3 maxvit_t regnet_y_400mf shufflenet_v2_x1_0 "
    "squeezenet1_1 swin_t vgg11_bn vit_b_32"
)
TIMM = (
    "convnextv2_atto crossvit_tiny_240 deit_tiny_distilled_patch16_224 densenet121 dpn68b edgenext_xx_small efficientformerv2_s0 "
    "efficientnet_lite0 eva02_tiny_patch14_224 fastvit_t8 ghostnet_050 hardcorenas_a levit_128s mobilenetv3_small_050 "
    "mobilenetv4_conv_small mobileone_s0 mobilevit_xxs regnety_002 repvit_m0_9 resnetv2_18 tf_efficientnetv2_b0 tiny_vit_5m_224 "
    "volo_d1_224 xcit_nano_12_p16_224"
)
USER = "Plain Tied Lazy Named TwoHeads Gated Prototypes Tuple TupleInTraining"
NETWORKS = [
    *PAPER.split(),
    *TORCHVISION.split(),
    *(f"timm/{name}" for name in TIMM.split()),
    *(f"zoo_networks:{name}" for name in USER.split()),
]
STAGES = ("PP", "condition", "uda", "resume", "evaluate", "ONNX", "torch-export")
_PIXELS = 256  # of the images on disk
_IMAGES = 8  # of a class, in every set


@dataclass(frozen=True)
class Data:
    """What networks are trained on; `target` has other classes than the other two.

    Attributes:
        synth, pseudo: shard directories.
        target: an image folder with training and test images.
    """

    synth: str
    pseudo: str
    target: str


class Killed(BaseException):
    """Ends a run as a signal would."""


def examine(arch: str, data: Data, out: Path, *, side: int = 0, batch: int = 4) -> dict[str, Any]:
    """One row: what each stage did, "" or the reason why it failed; stages after a failure are missing.

    Args:
        out: empty folder for the runs.
        side: resolution in pixels; 0 is that of the network.

    Returns:
        {"network", "pixels", "parameters", "seconds", "stages": {name: reason}, "refused": whether nothing was written}.
    """
    import torch

    from ppcore.classifiers import usual_input
    from ppcore.errors import UserError
    from pptrain import evaluate, export, train

    started = time.monotonic()
    settings: dict[str, Any] = {
        "model.arch": arch,
        "data.channels": 3,
        "data.resolution": side or usual_input(arch, 3).resolution,
        "optim.batch_size": batch,
        "optim.steps": 2,
        "loop.tensorboard": False,
        "loop.eval_every": 1,
    }
    tuned = {
        **settings,
        "data.target": data.target,
        "data.unlabeled": data.pseudo,
        "data.val_fraction": 0.25,
        "model.init": str(out / "PP"),
        "method.options": {"mu": 1},
    }
    found: dict[str, Any] = {}
    stages: dict[str, str] = {}

    def run(name: str, settings: dict[str, Any]) -> None:
        found[name] = train({**settings, "out": str(out / name)}, quiet=True, trust_code=True)

    def resume() -> None:
        again = {**tuned, "method.name": "condition", "loop.checkpoint_every": 1}
        with patch("pptrain.engine.step.StepRunner.run", _dies(1)):
            try:
                run("again", again)
            except Killed:
                assert (out / "again/checkpoint/last.pt").is_file()
        run("again", again)
        first, second = (
            safe_open(out / name / "model/model.safetensors", "pt") for name in ("condition", "again")
        )
        for tensor in first.keys():  # noqa: SIM118 (not a dict)
            assert torch.equal(first.get_tensor(tensor), second.get_tensor(tensor)), f"{tensor} differs"

    def evaluated() -> None:
        accuracy = evaluate(str(out / "condition"), data.target, device="cpu", trust_code=True).accuracy
        expected = found["condition"].accuracy
        assert accuracy == expected, f"accuracy {accuracy} after training {expected}"

    def exported(to: str) -> None:
        made = export(
            str(out / "condition"), str(out / f"model.{to}"), to=to, target=data.target, trust_code=True
        )
        accuracies = {name: e.accuracy for name, e in made.evaluations.items()}
        assert len(set(accuracies.values())) == 1, str(accuracies)

    steps: tuple[Callable[[], None], ...] = (
        lambda: run("PP", {**settings, "data.shards": data.synth}),
        lambda: run("condition", {**tuned, "method.name": "condition"}),
        lambda: run("uda", {**tuned, "method.name": "uda"}),
        resume,
        evaluated,
        lambda: exported("onnx"),
        lambda: exported("torch-export"),
    )
    refused = False
    for stage, step in zip(STAGES, steps, strict=True):
        try:
            step()
            stages[stage] = ""
        except Exception as error:  # a row says what went wrong
            refused = isinstance(error, UserError) and not any(out.iterdir())
            reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            stages[stage] = reason.splitlines()[0]
            if stage in ("PP", "condition"):
                break
    parameters = 0
    if "PP" in found:
        weights = safe_open(out / "PP/model/model.safetensors", "pt")
        parameters = sum(int(np.prod(weights.get_slice(name).get_shape())) for name in weights.keys())  # noqa: SIM118
    return {
        "network": arch,
        "pixels": settings["data.resolution"],
        "parameters": parameters,
        "seconds": round(time.monotonic() - started, 1),
        "stages": stages,
        "refused": refused,
    }


def _dies(at: int) -> Callable[..., float]:
    """A step of the training that ends the run after `at` steps."""
    from pptrain.engine.step import StepRunner

    real = StepRunner.run

    def step(self: StepRunner, *arguments: Any) -> float:
        if self.state.step == at:
            raise Killed
        return real(self, *arguments)

    return step


def make_data(out: Path) -> Data:
    """Write the images, then the shards by the commands of ppgen, unless they are there."""
    for name, classes in (("source", "abcd"), ("target/train", "xyz"), ("target/test", "xyz")):
        for label, letter in enumerate(classes):
            folder = out / name / letter
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(_IMAGES):
                seed = sum(map(ord, name)) * 1000 + label * 100 + number
                _picture(label, seed).save(folder / f"{number}.png")
    bank = ["--source", f"bank:{out / 'source'}"]
    synth, pseudo, classifier = out / "synth", out / "pseudo", out / "classifier"
    _program("ppgen", "synth", *bank, "--per-class", str(_IMAGES), "--out", str(synth))
    start = ["run", "--shards", str(synth), "--resolution", "32", "--steps", "2", "--out", str(classifier)]
    _program("pptrain", *start)
    like = ["--classifier", str(classifier), "--target", str(out / "target"), "--per-image", "2"]
    _program("ppgen", "pseudo", *bank, *like, "--out", str(pseudo))
    return Data(str(synth), str(pseudo), str(out / "target"))


def _picture(label: int, seed: int) -> Image.Image:
    """Noise with a bright band at the height of its class."""
    pixels = np.random.default_rng(seed).integers(0, 128, (_PIXELS, _PIXELS, 3), dtype=np.uint8)
    pixels[label * 40 : label * 40 + 40] += 100
    return Image.fromarray(pixels)


def _program(name: str, *words: str) -> None:
    done = subprocess.run([sys.executable, "-m", name, *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name} {' '.join(words)} failed:\n{done.stderr[-3000:]}")


def _row_file(out: Path, arch: str) -> Path:
    return out / "rows" / f"{re.sub('[^a-zA-Z0-9_]+', '-', arch)}.json"


def _examine_apart(arch: str, out: Path) -> None:
    """Make a row in a process of its own; a crash is a row, too."""
    file = _row_file(out, arch)
    command = [sys.executable, __file__, "--out", str(out), "--one", arch]
    with file.with_suffix(".log").open("w") as log:
        status = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode
    if not file.is_file():
        row = {"network": arch, "pixels": 0, "parameters": 0, "seconds": 0, "refused": False}
        file.write_text(json.dumps({**row, "stages": {STAGES[0]: f"the process ended with status {status}"}}))


def _examine_here(arch: str, out: Path) -> None:
    sys.path.insert(0, str(HERE))  # the user networks
    data = Data(str(out / "data/synth"), str(out / "data/pseudo"), str(out / "data/target"))
    runs = Path(tempfile.mkdtemp(dir=out, prefix="runs-"))
    try:
        row = examine(arch, data, runs)
    finally:
        shutil.rmtree(runs)
    file = _row_file(out, arch)
    partial = file.with_suffix(".part")
    partial.write_text(json.dumps(row, indent=1))
    partial.replace(file)


def table(rows: Sequence[dict[str, Any]], words: Sequence[str]) -> str:
    """The rows as Markdown, with the reasons of what failed below."""
    import timm
    import torch
    import torchvision

    head = ["network", "pixels", "M parameters", *STAGES, "s"]
    lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * 2 + "---|" * len(STAGES) + "---:|"]
    notes = []
    for row in rows:
        stages = row["stages"]
        cells = [{"": "yes", None: ""}.get(stages.get(stage), "no") for stage in STAGES]
        if row["refused"]:
            cells = ["refused", *[""] * (len(STAGES) - 1)]
        size = f"{row['parameters'] / 1e6:.2f}" if row["parameters"] else ""
        name = f"`{row['network'].removeprefix('zoo_networks:')}`"
        lines.append(
            f"| {' | '.join([name, str(row['pixels']), size, *cells, str(round(row['seconds']))])} |"
        )
        notes += [f"- {name}, {stage}: {reason}" for stage, reason in stages.items() if reason]
    made = (
        f"`python benchmarks/zoo.py {' '.join(words)}`, {date.today()}, torch {torch.__version__}, torchvision "
        f"{torchvision.__version__}, timm {timm.__version__}"
    )
    return "\n".join([made, "", *lines, "", *notes])


def main() -> None:
    """Make the rows that are missing, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="directory of the rows")
    parser.add_argument(
        "--only", nargs="+", default=NETWORKS, metavar="NETWORK", help="default: all networks"
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)  # the process of one network
    options = parser.parse_args()
    out = options.out.resolve()
    if options.one:
        _examine_here(options.one, out)
        return
    (out / "rows").mkdir(parents=True, exist_ok=True)
    for left in out.glob("runs-*"):
        shutil.rmtree(left)
    make_data(out / "data")
    for number, arch in enumerate(options.only, 1):
        if not _row_file(out, arch).is_file():
            print(f"{number} of {len(options.only)}: {arch}", file=sys.stderr, flush=True)
            _examine_apart(arch, out)
    rows = [json.loads(_row_file(out, arch).read_text()) for arch in options.only]
    print(table(rows, sys.argv[1:]))


if __name__ == "__main__":
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # the same rows on every machine
    main()
