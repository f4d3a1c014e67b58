"""The recipes of the paper: their sizes in a dry run, and a whole run of each at the scale `tiny`."""

from __future__ import annotations

from pathlib import Path

import inplace
import pytest
from PIL import Image

from ppcore.seeds import numpy_rng
from ppcore.targets import NAMED
from ppflow.cli.dry_run import job_sizes, target_size
from ppflow.jobs import expand
from ppflow.recipe import load_recipe, named_recipes
from ppflow.runner import check_job
from ppflow.statistics import read_results

PAPER = [name for name in named_recipes() if name.startswith("paper-")]
TARGETS = ("cars", "aircraft", "cub", "dtd", "flowers", "pets", "dogs", "indoor67", "caltech256-60")


def sizes(name: str, root: Path) -> dict[str, set[str]]:
    """Stage -> the sizes it has at the points of the grid, in words."""
    graph = expand(load_recipe(name), root)
    found: dict[str, set[str]] = {}
    for digest, size in job_sizes(graph).items():
        job = graph.jobs[digest]
        check_job(job)
        found.setdefault(job.stage, set()).add(size.text)
    return found


def test_all_are_there() -> None:
    wanted = ("methods", "architectures", "targets", "ssl", "generators", "ablations")
    assert set(PAPER) == {f"paper-{name}" for name in wanted}


@pytest.mark.parametrize("name", PAPER)
def test_real_sizes_are_known_before_anything_is_there(name: str, tmp_path: Path) -> None:
    found = sizes(name, tmp_path)
    assert found["classes"] == {"1,000 classes x 1,300 = 1,300,000 images"}
    assert found["pretrain"] == {"1,300,000 synthetic images, 457,032 steps of 256"}
    texts = " ".join(found["scratch"])
    for target in TARGETS if name == "paper-targets" else ["cars"]:
        train, test = (
            NAMED[target].train,
            NAMED[target].test,
        )  # the numbers themselves: tests/core/targets/test_named.py
        assert f"of {train:,} train, {test:,} test images of {target}," in texts
    if name == "paper-targets":
        assert "12,000 images of dogs x 10 = 120,000 images" in found["soft"]


@pytest.mark.parametrize("target", ["cars", "cars=elsewhere"])
def test_official_sizes_are_known_before_the_images_are_here(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert target_size(target) == (196, 8144, 8041)  # classes, training images, test images
    assert target_size("nobody-knows") is None


def test_grids_are_those_of_the_paper() -> None:
    assert len(load_recipe("paper-architectures").cells) == 6
    assert {cell.values["target"] for cell in load_recipe("paper-targets").cells} == set(TARGETS)
    algorithms = {s.settings.get("method.name") for s in load_recipe("paper-ssl").cells[0].stages.values()}
    assert algorithms >= {"entmin", "pseudo-label", "soft-pseudo-label", "pi-model", "uda"}
    assert load_recipe("letters-digits", {"labels": 2}).cells[0].group == "labels 2"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Parameters for the recipes: a tiny generator and classifier in their published formats, and a tiny target in RGB."""
    from tiny_models import save_dit

    from ppcore.classifiers import ClassifierSpec, build, save_classifier

    base = tmp_path_factory.mktemp("models")
    names = tuple(f"class {n}" for n in range(10))
    save_dit(base / "dit", names=names)
    save_classifier(
        base / "head", build("mobile", 10, 3), ClassifierSpec("mobile", names, channels=3, resolution=16)
    )
    for label in range(3):
        (base / f"birds/c{label}").mkdir(parents=True)
        for number in range(10):
            pixels = numpy_rng(0, "birds", label, number).integers(0, 256, (16, 16, 3), dtype="uint8")
            Image.fromarray(pixels).save(base / f"birds/c{label}/{number}.png")
    return {
        "source": str(base / "dit"),
        "source_classifier": str(base / "head"),
        "target": str(base / "birds"),
    }


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One directory of results for all recipes, so that equal stages run once."""
    return tmp_path_factory.mktemp("runs") / "out"


@pytest.mark.slow
@pytest.mark.parametrize("name", PAPER)
def test_every_recipe_runs_to_its_end_on_tiny_models(
    name: str, models: dict[str, str], shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = 2 if name == "paper-methods" else 1
    settings: dict[str, object] = {**models, "batch": 4, "steps": 1, "pretrain_steps": 1}
    if name == "paper-generators":
        settings["generator"] = {"tiny": {"source": settings.pop("source")}}
    if name == "paper-ablations":
        settings["other_classifier"] = settings["source_classifier"]
    assert inplace.run(monkeypatch, name, shared, parameters=settings, scale="tiny", seeds=seeds) == 0
    found = read_results(shared / "results.csv")
    recipe = load_recipe(name, settings, "tiny")
    assert found.rows == list(recipe.rows)
    assert len(found.entries) == seeds * len(recipe.rows) * len(recipe.cells)
    assert (shared / "report.html").stat().st_size > 20_000


@pytest.mark.slow
def test_the_grid_of_the_embedded_kit_runs_to_its_end(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert inplace.run(monkeypatch, "letters-digits", shared, scale="tiny", seeds=1) == 0
    assert "Accuracy against labels a class" in (shared / "report.html").read_text()
