"""What surrounds training: the command line, default directories, prediction, export, a user's own network, trackers."""

from __future__ import annotations

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import oddnet
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from toyshards import CLASSES, ShardWriter, write

import pptrain
from ppcore.classifiers import ClassifierSpec, build, load_classifier, save_classifier
from ppcore.errors import UserError
from ppcore.targets import load_target, open_images
from ppcore.trust import Trust
from pptrain.cli import main
from pptrain.config import load_config, save_config
from pptrain.engine import train
from pptrain.engine.directories import newest
from pptrain.evaluation import evaluate, export_model, write_csv
from pptrain.evaluation.export import export_classifier, onnx_logits
from pptrain.evaluation.figures import image_batches, summarize
from pptrain.evaluation.predictions import predict
from pptrain.models.network import choose_layout

Settings = dict[str, Any]


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run `pptrain ...` in this process; returns its exit status."""
    monkeypatch.setattr(sys, "argv", ["pptrain", *arguments])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_a_users_own_network_goes_all_the_way(
    target_folder: Path, write_shards: ShardWriter, tiny: Settings, tmp_path: Path
) -> None:
    base = {**tiny, "model.arch": "oddnet:build"}
    pp = train(
        load_config(
            overrides={**base, "data.shards": str(write_shards("s", [12, 12])), "out": str(tmp_path / "pp")}
        ),
        quiet=True,
    )
    unlabeled = str(write_shards("p", [12, 12], kind="pseudo"))
    options = {
        "method.name": "uda",
        "method.options": {"mu": 2},
        "data.unlabeled": unlabeled,
        "model.init": str(pp.out),
    }
    settings = {**base, **options, "data.target": str(target_folder), "out": str(tmp_path / "ssl")}
    ssl = train(load_config(overrides=settings), quiet=True)
    classifier = load_classifier(str(ssl.out), trust=Trust(True))
    report = evaluate(classifier, load_target(str(target_folder)).test)
    assert report.accuracy == ssl.accuracy
    assert export_classifier(classifier, "torch-export", tmp_path / "m.pt2") < 1e-3
    assert export_model(str(ssl.out), str(tmp_path / "m.onnx"), trust_code=True).difference < 1e-3
    test = load_target(str(target_folder)).test
    images, labels = image_batches(test, classifier.spec), torch.from_numpy(test.labels)
    assert summarize(onnx_logits(tmp_path / "m.onnx", images), labels).accuracy == ssl.accuracy
    described = json.loads((tmp_path / "m.onnx.json").read_text())
    assert described["class_names"] == list(CLASSES)
    assert described["input"]["shape"] == ["batch", 1, 16, 16]


def test_the_next_command_works_for_a_users_own_network(
    target_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, own = str(tmp_path / "run"), ["--arch", "oddnet:build", "--steps", "2", "--resolution", "16"]
    assert command(monkeypatch, "run", "--target", str(target_folder), "--out", out, *own) == 0
    line = next(x for x in capsys.readouterr().err.splitlines() if x.startswith("next: pptrain "))
    assert command(monkeypatch, *shlex.split(line.removeprefix("next: pptrain "))) == 0


def test_export_with_int8_from_the_command_line(
    target_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    save_classifier(tmp_path / "m", build("small", 4, 1), ClassifierSpec("small", CLASSES, 1, 16))
    out = tmp_path / "e" / "m.onnx"
    out.parent.mkdir()
    arguments = ["export", str(tmp_path / "m"), "--out", str(out)]
    assert command(monkeypatch, *arguments, "--int8") == 2
    assert command(monkeypatch, *arguments, "--to", "tflite") == 2
    assert not any(out.parent.iterdir())
    assert command(monkeypatch, *arguments, "--int8", "--target", str(target_folder)) == 0
    printed = capfd.readouterr().out
    assert printed.count("test accuracy") == 3
    assert sorted(f.name for f in out.parent.iterdir()) == ["m.int8.onnx", "m.onnx", "m.onnx.json"]
    assert (out.parent / "m.int8.onnx").stat().st_size < 0.5 * out.stat().st_size


def test_an_export_lies_beside_its_model_where_no_place_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_classifier(tmp_path / "run", build("small", 4, 1), ClassifierSpec("small", CLASSES, 1, 16))
    assert command(monkeypatch, "export", f"{tmp_path}/run/", "--to", "torch-export") == 0
    assert (tmp_path / "run.pt2").is_file()
    assert (tmp_path / "run.pt2.json").is_file()
    assert load_classifier(str(tmp_path / "run")).spec.class_names == CLASSES  # the directory is as it was


def test_predictions_are_those_of_the_classifier(target_folder: Path, tmp_path: Path) -> None:
    save_classifier(tmp_path / "m", build("small", 4, 1), ClassifierSpec("small", CLASSES, 1, 16))
    classifier = load_classifier(str(tmp_path / "m"))
    images = open_images([str(target_folder / "test")])
    assert len(images) == 24
    with (tmp_path / "p.csv").open("w", newline="") as handle:
        write_csv(predict(classifier, images, top=9), handle)
    rows = list(csv.DictReader((tmp_path / "p.csv").open()))
    image = torch.from_numpy(np.asarray(Image.open(images.ids[5])).copy())[None, None]
    expected = classifier(image).softmax(1)[0].detach()
    assert rows[5]["file"] == images.ids[5]
    assert rows[5]["class1"] == CLASSES[int(expected.argmax())]
    assert float(rows[5]["probability1"]) == pytest.approx(float(expected.max()), abs=1e-3)
    assert "probability4" in rows[0]
    assert "probability5" not in rows[0]
    with pytest.raises(UserError, match="no images"):
        open_images([str(tmp_path / "m")])
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    with pytest.raises(UserError, match=r"broken.png is damaged"):
        list(predict(classifier, open_images([str(tmp_path / "broken.png")])))


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_predictions_have_the_format_that_their_file_says(
    suffix: str, target_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_classifier(tmp_path / "m", build("small", 4, 1), ClassifierSpec("small", CLASSES, 1, 16))
    out = tmp_path / f"é.{suffix}"
    words = ["predict", str(tmp_path / "m"), str(target_folder / "test"), "--top=2", "--out"]
    assert command(monkeypatch, *words, str(out)) == 0
    rows: list[dict[str, Any]]
    if suffix == "csv":
        rows = list(csv.DictReader(out.open()))
    elif suffix == "jsonl":
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    else:
        rows = pq.read_table(out).to_pylist()
    assert len(rows) == 24
    assert list(rows[0]) == ["file", "class1", "probability1", "class2", "probability2"]
    assert 0.25 <= float(rows[0]["probability1"]) <= 1
    assert isinstance(rows[0]["probability1"], str if suffix == "csv" else float)


def test_predictions_of_an_unknown_format_are_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "predict", "no-model", "no-image", f"--out={tmp_path}/p.xlsx") == 2
    assert "end the name in .csv, .jsonl or .parquet" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_run_without_arguments_finds_what_ppgen_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(monkeypatch, "run") == 2
    assert "run ppgen synth and ppgen pseudo first" in capsys.readouterr().err
    write(tmp_path / "runs" / "synth-old", [8])
    write(tmp_path / "runs" / "synth-toy", [16, 16])
    os.utime(tmp_path / "runs" / "synth-old" / "index.json", (1, 1))
    target = {"name": "digits", "labels_per_class": 2, "label_seed": 7}
    write(tmp_path / "runs" / "pseudo-toy-digits", [16, 16], kind="pseudo", plan={"target": target})
    (tmp_path / "runs" / "synth-unfinished").mkdir()
    assert newest("synth") == Path("runs/synth-toy")
    assert command(monkeypatch, "run", "--out", "mine") == 2
    assert "without a target" in capsys.readouterr().err
    short = ["--steps", "3", "--batch-size", "8", "--set", "loop.tensorboard=false", "--resolution", "16"]
    assert command(monkeypatch, "run", *short) == 0
    printed = capsys.readouterr().out
    assert "found runs/synth-toy, runs/pseudo-toy-digits" in printed
    assert "test accuracy" in printed
    runs = {p.name.rsplit("-", 1)[0]: p for p in (tmp_path / "runs").glob("train-*")}
    assert sorted(runs) == ["train-digits-condition", "train-synth-toy-pretrain"]
    tuned = json.loads((runs["train-digits-condition"] / "result.json").read_text())
    assert tuned["settings"]["data"]["label_seed"] == 7
    assert tuned["settings"]["data"]["labels_per_class"] == 2
    assert tuned["settings"]["model"]["init"] == str(runs["train-synth-toy-pretrain"].relative_to(tmp_path))
    assert command(monkeypatch, "run", *short) == 0
    assert capsys.readouterr().out.count("finished already") == 2


def test_command_line_errors_and_lists(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "run", "--target", "digits", "--set", "optim.lrr=1") == 2
    assert capsys.readouterr().err == "error: unknown setting 'optim.lrr'; did you mean 'lr'?\n"
    assert command(monkeypatch, "run", "--target", "digits", "--set", "optim.lr") == 2
    assert "write --set optim.weight_decay=0.01" in capsys.readouterr().err
    assert command(monkeypatch, "methods") == 0
    assert "softmatch" in capsys.readouterr().out


def test_networks_that_a_processor_would_get_wrong_stay_contiguous() -> None:
    cpu, last, plain = torch.device("cpu"), torch.channels_last, torch.contiguous_format
    assert choose_layout(oddnet.build(4, 1), cpu, True) == plain
    assert choose_layout(build("small", 4, 1), cpu, True) == last
    assert choose_layout(build("small", 4, 1), cpu, False) == plain
    assert choose_layout(oddnet.build(4, 1), torch.device("cuda"), True) == last


@pytest.mark.parametrize("kind", ["supervised", "uda"])
def test_sigkill_and_resume_with_worker_processes(
    kind: str, target_folder: Path, write_shards: ShardWriter, tiny: Settings, tmp_path: Path
) -> None:
    """A real SIGKILL at a moment nobody chose; the final weights equal those of the uninterrupted run bit for bit."""
    settings = {
        **tiny,
        "data.resident_mb": 0,
        "data.workers": 2,
        "optim.steps": 40,
        "loop.checkpoint_every": 4,
    }
    if kind == "uda":
        unlabeled = str(write_shards("p", [9, 4, 11, 8], kind="pseudo"))
        settings |= {"data.target": str(target_folder), "data.unlabeled": unlabeled}
        settings |= {"method.name": "uda", "method.options": {"mu": 2}}
    else:
        settings |= {"data.shards": str(write_shards("s", [9, 4, 11, 8]))}
    whole = train(load_config(overrides={**settings, "out": str(tmp_path / "whole")}), quiet=True)
    cut = tmp_path / "cut"
    config = load_config(overrides={**settings, "out": str(cut)})
    save_config(config, tmp_path)
    arguments = [
        sys.executable,
        "-c",
        "from pptrain.cli import main; main()",
        "run",
        "--config",
        str(tmp_path / "config.yaml"),
    ]
    process = subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not (cut / "checkpoint" / "last.pt").exists() and not (cut / "result.json").exists():
        assert process.poll() is None or (cut / "result.json").exists()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (cut / "result.json").exists(), "the run was over before it could be killed"
    train(config, quiet=True)
    a, b = (load_file(run / "model" / "model.safetensors") for run in (whole.out, cut))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_trackers_by_name(target_folder: Path, tiny: Settings, tmp_path: Path) -> None:
    settings = {**tiny, "data.target": str(target_folder), "out": str(tmp_path / "r"), "optim.steps": 4}
    train(load_config(overrides={**settings, "loop.trackers": ["tensorboard"]}), quiet=True)
    assert list((tmp_path / "r" / "pptrain").glob("events.*"))
    for name, message in (
        ("nosuch", "unknown tracker 'nosuch'"),
        ("wandb", "tracker wandb is not installed"),
    ):
        refused = load_config(overrides={**settings, "out": str(tmp_path / "q"), "loop.trackers": name})
        with pytest.raises(UserError, match=message):
            train(refused, quiet=True)
    assert not (tmp_path / "q").exists()


def test_training_without_the_command_line(target_folder: Path, tiny: Settings, tmp_path: Path) -> None:
    result = pptrain.train(
        {**tiny, "data.target": str(target_folder), "out": str(tmp_path / "r")}, quiet=True
    )
    assert pptrain.evaluate(str(result.out), str(target_folder)).accuracy == result.accuracy
    found = list(pptrain.predict(str(result.out), [str(target_folder / "test")], top=2))
    assert len(found) == 24
    assert all(len(prediction.classes) == 2 for prediction in found)
    assert pptrain.export(str(result.out), to="torch-export").file == tmp_path / "r.pt2"
    assert sorted(pptrain.__all__) == ["evaluate", "export", "predict", "train"]
