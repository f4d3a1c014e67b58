from pathlib import Path

import pytest

from ppcore.errors import UserError
from ppflow.recipe import load_recipe, named_recipes
from ppflow.recipe.parse import parse_recipe
from ppflow.runner.graph import dependents, expand


def content(**changes):
    return {
        "title": "t",
        "seeds": [0, 1],
        "generate": {
            "letters": {"kind": "synth", "source": "letters", "per_class": 2},
            "similar": {"kind": "pseudo", "target": "digits", "per_image": 2, "per_seed": True},
        },
        "defaults": {"data.target": "digits"},
        "train": {
            "pretrain": {"data.target": "", "data.shards": ["letters"]},
            "scratch": None,
            "both": {"model.init": "pretrain", "data.unlabeled": ["similar"], "method.name": "uda"},
        },
        "rows": {"Scratch": "scratch", "PP + P-SSL": "both"},
        "compare": ["Scratch"],
    } | changes


def test_named_recipes_parse():
    for name in named_recipes():
        recipe = load_recipe(name)
        assert expand(recipe, root := Path("x"))
        assert all(job.folder.is_relative_to(root) for job in expand(recipe, root).values())


def test_expansion_shares_what_seeds_share_and_orders_needs_first(tmp_path):
    jobs = expand(parse_recipe(content(), "r"), tmp_path)
    assert set(jobs) == {
        ("letters", None), ("similar", 0), ("similar", 1), ("pretrain", 0), ("pretrain", 1),
        ("scratch", 0), ("scratch", 1), ("both", 0), ("both", 1),
    }  # fmt: skip
    order = list(jobs)
    for key, job in jobs.items():
        assert all(order.index(need) < order.index(key) for need in job.needs)
    both = jobs["both", 1]
    assert both.settings["model.init"] == str(jobs["pretrain", 1].folder)
    assert both.settings["data.unlabeled"] == [str(jobs["similar", 1].folder)]
    assert both.settings["seed"] == both.settings["data.label_seed"] == 1
    assert jobs["similar", 1].settings["label_seed"] == 1
    assert dependents(jobs)["letters", None] == 4
    assert dependents(jobs)["scratch", 0] == 0


def test_folders_follow_the_request(tmp_path):
    def folders(**changes):
        return {
            key: job.folder for key, job in expand(parse_recipe(content(**changes), "r"), tmp_path).items()
        }

    base = folders()
    assert base == folders(title="other words")
    generate = content()["generate"]
    changed = folders(generate={**generate, "letters": {**generate["letters"], "per_class": 3}})
    moved = {key[0] for key in base if base[key] != changed[key]}
    assert moved == {"letters", "pretrain", "both"}


def test_fewer_seeds_keep_their_folders(tmp_path):
    recipe = parse_recipe(content(), "r")
    few, many = expand(recipe.with_seeds(1), tmp_path), expand(recipe.with_seeds(3), tmp_path)
    assert all(many[key].folder == job.folder for key, job in few.items())


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
        ({"train": {"scratch": [1]}}, "train.scratch.*dictionary"),
        (
            {"train": {"a": {"model.init": "letters"}}, "rows": {"A": "a"}, "compare": []},
            "expected a train stage",
        ),
        (
            {
                "train": {"a": {"model.init": "b"}, "b": {"model.init": "a"}},
                "rows": {"A": "a"},
                "compare": [],
            },
            "depends on itself",
        ),
    ],
)
def test_recipes_that_make_no_sense(changes, message):
    with pytest.raises(UserError, match=message):
        parse_recipe(content(**changes), "r")


def test_unknown_recipe():
    with pytest.raises(UserError, match="unknown recipe"):
        load_recipe("nosuch")


def test_broken_yaml(tmp_path):
    (tmp_path / "r.yaml").write_text("a: [")
    with pytest.raises(UserError, match="not valid YAML"):
        load_recipe(str(tmp_path / "r.yaml"))
