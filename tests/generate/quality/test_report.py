"""ppgen report on whole directories."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from faint import build, call, make_head, sentence
from rig import make_classifier, make_target, pseudo, synth

from ppcore.errors import UserError
from ppcore.shards import ShardSet
from ppgen.options import ShardOptions
from ppgen.quality.features import measure_shards
from ppgen.sources.protocol import SourceSpec

SETTINGS = ShardOptions(seed=3, batch_size=8, samples_per_shard=20)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A target, a classifier, and one directory of each kind made with them."""
    base = tmp_path_factory.mktemp("report")
    target, head = make_target(base / "flowers"), make_head(base / "head")
    spec = SourceSpec("faint:build", device="cpu", classifier=str(head), trust_code=True)
    assert synth(base / "synth", spec=spec) == 0
    for mode in ("soft", "uniform"):
        assert pseudo(base / mode, target, head, condition=mode) == 0
    return base


@pytest.fixture
def here(base: Path, tmp_path: Path) -> Path:
    for name in ("synth", "soft", "uniform"):
        shutil.copytree(base / name, tmp_path / name)
    return tmp_path


def report(folder: Path, *args: str) -> None:
    """`ppgen report`; the places that the plan may not name by itself are typed."""
    plan = folder / "plan.json"
    load = json.loads(plan.read_text()).get("load", {}) if plan.is_file() else {}
    typed = ["--trust-code"]
    for option, name in (("--classifier", "classifier"), ("--reference", "target")):
        if load.get(name) and option not in args:
            typed += [option, load[name]]
    call("report", str(folder), *typed, *args)


def figures(folder: Path) -> dict:  # type: ignore[type-arg]
    return json.loads((folder / "quality.json").read_text())


def text(folder: Path) -> str:
    return (folder / "report.html").read_text()


def test_synth_figures_are_those_of_the_classifier(here: Path, base: Path) -> None:
    report(here / "synth", "--device", "cpu")
    found = figures(here / "synth")
    assert found["all"]["per_class"] == {"class 0": 25, "class 2": 25, "class 5": 25}
    assert found["looked_at"] == 75
    assert found["extractor"]["name"].startswith("faint:Head ")
    assert found["extractor"]["features"] == 10
    spec = SourceSpec("faint:build", device="cpu", classifier=str(base / "head"), trust_code=True)
    from ppgen.sources import open_classifier

    classifier, shards = open_classifier(spec, build().num_classes), ShardSet.open(str(here / "synth"))
    seen = measure_shards(shards, classifier, 75, 0, lambda count: None)
    assert seen.probabilities is not None
    assert seen.condition is not None
    own = (seen.probabilities * seen.condition).sum(1)
    assert found["seen_as"]["confidence"]["mean"] == pytest.approx(own.mean(), rel=1e-4)
    assert found["seen_as"]["agreement"] == pytest.approx(
        (seen.probabilities.argmax(1) == seen.condition.argmax(1)).mean(), rel=1e-4
    )
    assert "distances" not in found


def test_the_page_is_one_file_without_paths(here: Path) -> None:
    report(here / "synth", "--reference", str(here / "uniform"))
    page = text(here / "synth")
    assert not re.findall(r"(?:src|href)=[\"'](?!data:|#)", page)
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert str(here) not in page + (here / "synth/quality.json").read_text()
    for heading in (
        "Random samples",
        "Least confident",
        "Most confident",
        "Classes",
        "Provenance",
        "samples in uniform",
    ):
        assert heading in page


def test_a_pseudo_set_is_compared_with_its_target(here: Path) -> None:
    report(here / "soft", "--uniform", str(here / "uniform"))
    found = figures(here / "soft")
    assert [(row["of"], row["to"]) for row in found["distances"]] == [
        ("pseudo samples", "training images of flowers"),
        ("uniform samples", "training images of flowers"),
        ("half of the training images of flowers", "the other half"),
    ]
    assert found["seen_as"]["soft"] is True
    assert found["seen_as"]["kl"]["mean"] > 0
    assert found["all"]["effective_classes"] > 1
    assert sum(found["all"]["condition_entropy"]["counts"]) == 75
    assert "Target images and the samples they conditioned" in text(here / "soft")
    assert "mostly bias" in "".join(found["notes"])  # 15 images, 10 dimensions


def test_drawn_conditions_count_as_classes(here: Path) -> None:
    report(here / "uniform")
    found = figures(here / "uniform")
    assert found["seen_as"]["soft"] is False
    assert sum(found["all"]["per_class"].values()) == 75


def test_equal_questions_give_equal_answers(here: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        report(here / "soft", "--samples", "40", "--seed", "7", "--out", str(tmp_path / name))
    assert (tmp_path / "a/report.html").read_bytes() == (tmp_path / "b/report.html").read_bytes()
    assert figures(tmp_path / "a") == figures(tmp_path / "b")
    assert not (here / "soft/report.html").exists()


def test_a_bounded_look_is_a_fixed_random_part(base: Path) -> None:
    shards = ShardSet.open(str(base / "synth"))
    counted: list[int] = []
    few = measure_shards(shards, None, 33, 1, counted.append)
    assert len(few) == sum(counted) == 33
    assert len(set(few.position.tolist())) == 33
    assert few.position.tolist() == measure_shards(shards, None, 33, 1, counted.append).position.tolist()
    assert few.position.tolist() != measure_shards(shards, None, 33, 2, counted.append).position.tolist()
    assert few.condition is not None
    for position, condition in zip(few.position, few.condition, strict=True):
        assert condition.argmax() == shards.fetch(int(position)).label
    whole = measure_shards(shards, None, 1000, 1, counted.append)
    assert sorted(whole.position) == list(range(75))


def test_exact_duplicates_are_counted(tmp_path: Path) -> None:
    synth(tmp_path / "out", spec=SourceSpec("dummy:build", device="cpu", sampling={"flat": True}))
    report(tmp_path / "out")
    found = figures(tmp_path / "out")
    assert found["all"]["exact_duplicates"] > 0
    assert found["look_alikes"]["same_hash"] >= found["all"]["exact_duplicates"]
    assert "Look-alikes" in text(tmp_path / "out")


def test_without_classifier_the_rest_is_reported(tmp_path: Path, capsys) -> None:
    synth(tmp_path / "out")  # the painter has no classifier
    report(tmp_path / "out")
    found = figures(tmp_path / "out")
    assert "seen_as" not in found
    assert found["notes"] == ["No figures of the source classifier: it could not be opened."]
    assert "no classifier of its own" in capsys.readouterr().err
    with pytest.raises(UserError, match="there is no classifier; name one with --classifier"):
        report(tmp_path / "out", "--reference", str(tmp_path / "out"))


def test_a_classifier_without_linear_head_gives_no_features(tmp_path: Path) -> None:
    synth(tmp_path / "out")
    reader = make_classifier(tmp_path / "reader")
    report(tmp_path / "out", "--classifier", str(reader))
    found = figures(tmp_path / "out")
    assert found["seen_as"]["agreement"] == 1
    assert found["extractor"]["features"] is None
    with pytest.raises(UserError, match="no linear head"):
        report(tmp_path / "out", "--classifier", str(reader), "--reference", str(tmp_path / "out"))


def test_a_target_that_has_moved_can_be_typed(here: Path, base: Path) -> None:
    moved = base / "flowers-moved"
    (base / "flowers").rename(moved)
    try:
        report(here / "soft", "--reference", str(moved))
        assert figures(here / "soft")["distances"][0]["to"] == "training images of flowers-moved"
    finally:
        moved.rename(base / "flowers")


def test_another_classifier_is_noted(here: Path, tmp_path: Path) -> None:
    from faint import Head

    from ppcore.classifiers import ClassifierSpec, save_classifier

    names = tuple(f"class {i}" for i in range(10))
    net = Head(10)
    net.fc.weight.data.mul_(0.5)
    save_classifier(tmp_path / "other", net, ClassifierSpec("faint:Head", names, channels=1, resolution=16))
    report(here / "soft", "--classifier", str(tmp_path / "other"))
    assert any("is not the one" in note for note in figures(here / "soft")["notes"])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["synth", "--samples", "0"], "--samples is 0"),
        (["synth", "--reference", "nowhere"], "unknown target"),
        (["synth", "--uniform", "uniform"], "give one with --reference"),
        (["soft", "--uniform", "soft"], "was made with the condition 'soft'"),
        (["soft", "--uniform", "nowhere"], "is no shard directory"),
        (["soft", "--classifier", "nowhere"], "unknown classifier"),
        (["nowhere"], "is no shard directory"),
        (["soft", "--out", "soft/plan.json"], "not a writable directory"),
    ],
)
def test_wrong_questions_write_nothing(
    here: Path, args: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    before = sorted(here.rglob("*"))
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        report(Path(args[0]), *args[1:])
    assert sentence(caught.value)
    assert sorted(here.rglob("*")) == before


def test_a_damaged_image_is_named(here: Path) -> None:
    store = here / "synth/shards/000001.tar"
    data = bytearray(store.read_bytes())
    start = data.index(b"IDAT") + 20
    data[start : start + 40] = bytes(40)
    store.write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"image 0000000\d\d in .*000001.tar is damaged"):
        report(here / "synth")


def test_the_report_is_no_part_of_what_verify_checks(here: Path) -> None:
    report(here / "synth")
    call("verify", str(here / "synth"))
    assert np.isfinite(figures(here / "synth")["class_spread"]["ratio"])
