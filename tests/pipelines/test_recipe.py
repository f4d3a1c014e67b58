from pathlib import Path

import pytest

from ppcore.errors import UserError
from ppflow.recipe.recipe import load_recipe, named_recipes, parse_recipe, with_seeds
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
        assert all(node.folder.is_relative_to(root) for node in expand(recipe, root).values())


def test_expansion_shares_what_seeds_share_and_orders_needs_first(tmp_path):
    nodes = expand(parse_recipe(content(), "r"), tmp_path)
    assert set(nodes) == {
        ("letters", None), ("similar", 0), ("similar", 1), ("pretrain", 0), ("pretrain", 1),
        ("scratch", 0), ("scratch", 1), ("both", 0), ("both", 1),
    }  # fmt: skip
    order = list(nodes)
    for key, node in nodes.items():
        assert all(order.index(need) < order.index(key) for need in node.needs)
    both = nodes["both", 1]
    assert both.settings["model.init"] == str(nodes["pretrain", 1].folder)
    assert both.settings["data.unlabeled"] == [str(nodes["similar", 1].folder)]
    assert both.settings["seed"] == both.settings["data.label_seed"] == 1
    assert nodes["similar", 1].settings["label_seed"] == 1
    assert dependents(nodes)["letters", None] == 4
    assert dependents(nodes)["scratch", 0] == 0


def test_folders_follow_the_request(tmp_path):
    def folders(**changes):
        return {
            key: node.folder for key, node in expand(parse_recipe(content(**changes), "r"), tmp_path).items()
        }

    base = folders()
    assert base == folders(title="other words")
    generate = content()["generate"]
    changed = folders(generate={**generate, "letters": {**generate["letters"], "per_class": 3}})
    moved = {key[0] for key in base if base[key] != changed[key]}
    assert moved == {"letters", "pretrain", "both"}


def test_fewer_seeds_keep_their_folders(tmp_path):
    recipe = parse_recipe(content(), "r")
    few, many = expand(with_seeds(recipe, 1), tmp_path), expand(with_seeds(recipe, 3), tmp_path)
    assert all(many[key].folder == node.folder for key, node in few.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"row": {}}, "did you mean rows"),
        ({"rows": {"Scratch": "nosuch"}}, "expected a training stage"),
        ({"rows": {"Letters": "letters"}}, "expected a training stage"),
        ({"rows": {}, "compare": []}, "no rows"),
        ({"compare": ["scratch"]}, "did you mean Scratch"),
        ({"generate": {"x": {"kind": "sinth"}}}, "expected synth or pseudo"),
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
