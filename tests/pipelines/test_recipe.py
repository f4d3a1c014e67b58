"""Recipes: their entries, parameters, grids and scales, and the graph of jobs that they expand to."""

import json
from pathlib import Path

import pytest
from recipes import content

from ppcore.errors import UserError
from ppflow.jobs import expand
from ppflow.recipe import load_recipe, named_recipes, parse_recipe, recipe_schema
from ppflow.runner import check_job


def names(graph):
    return {(job.stage, job.seed) for job in graph.jobs.values()}


def test_named_recipes_parse():
    for name in named_recipes():
        recipe = load_recipe(name)
        graph = expand(recipe, root := Path("x"))
        assert graph.jobs
        for job in {job.stage: job for job in graph.jobs.values()}.values():
            check_job(job)  # every option and setting exists
        assert all(job.folder.is_relative_to(root) for job in graph.jobs.values())


def test_expansion_shares_what_seeds_share_and_orders_needs_first(tmp_path):
    graph = expand(parse_recipe(content(), "r"), tmp_path)
    assert names(graph) == {
        ("letters", None), ("similar", 0), ("similar", 1), ("pretrain", 0), ("pretrain", 1),
        ("scratch", 0), ("scratch", 1), ("both", 0), ("both", 1),
    }  # fmt: skip
    order = list(graph.jobs)
    for digest, job in graph.jobs.items():
        assert all(order.index(need) < order.index(digest) for need in job.needs)
    places = graph.cells[""]
    both = graph.jobs[places["both"][1]]
    assert both.settings["model.init"] == str(graph.jobs[places["pretrain"][1]].folder)
    assert both.settings["data.unlabeled"] == [str(graph.jobs[places["similar"][1]].folder)]
    assert both.settings["seed"] == both.settings["data.label_seed"] == 1
    waiting = graph.dependents()
    assert len(waiting[places["letters"][None]]) == 4
    assert len(waiting[places["scratch"][0]]) == 0


def test_soft_labels_of_a_classifier_that_the_recipe_trains(tmp_path):
    changed = content()
    changed["generate"]["similar"]["classifier"] = "pretrain"
    graph = expand(parse_recipe(changed, "r"), tmp_path)
    places = graph.cells[""]
    similar, own = graph.jobs[places["similar"][1]], places["pretrain"][1]
    assert own in similar.needs
    assert similar.settings["classifier"] == str(graph.jobs[own].folder)


def test_parameters_grids_and_scales():
    recipe = parse_recipe(content(grid={"per": [1, 2], "shape": {"wide": {"images": 9}, "slim": {}}}), "r")
    assert [cell.group for cell in recipe.cells] == [
        "per 1, shape wide", "per 1, shape slim", "per 2, shape wide", "per 2, shape slim",
    ]  # fmt: skip
    first, second, third, _ = recipe.cells
    assert [c.stages["letters"].settings["per_class"] for c in (first, second)] == [9, 2]
    assert third.stages["similar"].settings["per_image"] == 2
    one = parse_recipe(content(grid={"per": [1, 2]}), "r", {"per": 2, "pretrain.optim.steps": 5})
    assert [cell.group for cell in one.cells] == ["per 2"]
    assert one.cells[0].stages["pretrain"].settings["optim.steps"] == 5
    small = content(scales={"tiny": {"seeds": [4], "images": 1, "defaults.optim.steps": 3}})
    tiny = parse_recipe(small, "r", {"images": 7}, "tiny")
    assert tiny.seeds == (4,)
    assert tiny.cells[0].stages["letters"].settings["per_class"] == 7  # the command line comes last
    assert tiny.cells[0].stages["scratch"].settings["optim.steps"] == 3


def test_texts_with_parameters_and_settings_left_out():
    recipe = parse_recipe(
        content(params={"images": None, "per": 3}, title="per $per, $$5", notes=["of ${per}x"]), "r"
    )
    assert (recipe.title, recipe.notes) == ("per 3, $5", ("of 3x",))
    assert "per_class" not in recipe.cells[0].stages["letters"].settings


def test_only_some_rows(tmp_path):
    recipe = parse_recipe(content(), "r").with_rows(["PP*"])
    assert list(recipe.rows) == ["PP + P-SSL"]
    assert recipe.compare == ()
    assert ("scratch", 0) not in names(expand(recipe, tmp_path))
    with pytest.raises(UserError, match="no row 'Nosuch'"):
        recipe.with_rows(["Nosuch"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"row": {}}, "did you mean rows"),
        ({"rows": {"Scratch": "nosuch"}}, "expected a training stage"),
        ({"rows": {"Letters": "letters"}}, "expected a training stage"),
        ({"rows": {}, "compare": []}, "no rows"),
        ({"compare": ["scratch"]}, "did you mean Scratch"),
        ({"generate": {"x": {"kind": "sinth"}}}, "expected synth or pseudo"),
        ({"seeds": "many"}, "seeds: input should be"),
        ({"seeds": [1, 1]}, "seed twice"),
        ({"train": {"scratch": [1]}}, "train.scratch.*dictionary"),
        (
            {"defaults": {"data.target": "$tagret"}, "params": {"target": 1, "images": 1, "per": 1}},
            "mean target",
        ),
        ({"defaults": {"data.target": "5 $"}}, "stray"),
        ({"grid": {"labels": []}}, "grid: labels is"),
        ({"defaults": {"resources": {"gpu": 1}}}, "did you mean gpus"),
        ({"refit": {"x": {"candidates": ["scrach"]}}}, "did you mean scratch"),
        ({"refit": {"x": {}}}, "no candidates"),
        ({"export": {"x": {"model": "letters"}}}, "expected a train or refit stage"),
        (
            {"train": {"a": {"model.init": "letters"}}, "rows": {"A": "a"}, "compare": []},
            "expected a train or refit stage",
        ),
        (
            {"generate": {"letters": {"kind": "pseudo", "target": "digits", "classifier": "scratch"}}},
            "give letters per_seed: true",
        ),
        (
            {
                "train": {"a": {"model.init": "b"}, "b": {"model.init": "a"}},
                "rows": {"A": "a"},
                "compare": [],
            },
            "in a circle",
        ),
    ],
)
def test_recipes_that_make_no_sense(changes, message):
    with pytest.raises(UserError, match=message):
        parse_recipe(content(**changes), "r")


@pytest.mark.parametrize(
    ("parameters", "scale", "message"),
    [
        ({"labls": 2}, None, "has no parameter 'labls'"),
        ({"nosuch.optim.steps": 2}, None, "or STAGE.SETTING"),
        ({}, "tiny", "scales has an unknown entry 'tiny'"),
        ({"shape": "thin"}, None, "shape has an unknown entry 'thin'"),
    ],
)
def test_command_lines_that_make_no_sense(parameters, scale, message):
    with pytest.raises(UserError, match=message):
        parse_recipe(content(grid={"shape": {"wide": {"images": 9}}}), "r", parameters, scale)


def test_unknown_recipe():
    with pytest.raises(UserError, match="unknown recipe"):
        load_recipe("nosuch")


def test_broken_yaml(tmp_path):
    (tmp_path / "r.yaml").write_text("a: [")
    with pytest.raises(UserError, match="not valid YAML"):
        load_recipe(str(tmp_path / "r.yaml"))


def test_the_schema_takes_every_recipe_and_refuses_a_misspelt_one():
    import yaml
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(json.loads(recipe_schema()))
    for path in Path(load_recipe.__code__.co_filename).parents[1].glob("recipes/*.yaml"):
        assert not list(validator.iter_errors(yaml.safe_load(path.read_text()))), path
    assert list(validator.iter_errors({"rowz": {}}))
    assert list(validator.iter_errors({"seeds": ["a"]}))
