"""Label spaces side by side: the classifier's classes and the generator's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ppcore.classifiers import Classifier, ClassifierSpec, build
from ppcore.errors import UserError
from ppgen.sources.classifier import (
    align_classes,
    aligned,
    joining_matrix,
    read_mapping,
    realign,
    require_defined,
)


def test_label_spaces_align_by_identifier_in_any_order() -> None:
    places = align_classes(["n03", "n01", "n02"], ["n01", "n02", "n03"])
    assert places.tolist() == [2, 0, 1]
    p = torch.tensor([[0.7, 0.2, 0.1]])
    torch.testing.assert_close(realign(p, joining_matrix(places, 3), True), torch.tensor([[0.2, 0.1, 0.7]]))


def test_synonyms_agree_place_by_place() -> None:
    names = [f"name{i}" for i in range(20)]
    longer = [f"{name}, alias {name}" for name in names]
    assert align_classes(names, longer).tolist() == list(range(20))
    with pytest.raises(UserError, match="class 0 is"):
        align_classes(names, longer[::-1])


def test_label_spaces_that_do_not_match_are_refused() -> None:
    with pytest.raises(UserError, match="has 2 classes and the generator 3"):
        align_classes(["a", "b"], ["a", "b", "c"])
    with pytest.raises(UserError, match="two classes are called"):
        align_classes(["a", "a", "b"], ["b", "a", "a"])
    assert align_classes(["a", "a"], ["a", "a"]).tolist() == [0, 1]


def test_a_mapping_joins_label_spaces_that_differ(tmp_path: Path) -> None:
    table = tmp_path / "mapping.csv"
    table.write_text("# classifier,generator\ntabby,cat\nsiamese,cat\nbeagle,dog\n")
    places = align_classes(["tabby", "siamese", "beagle", "car"], ["dog", "cat"], read_mapping(table))
    assert places.tolist() == [1, 1, 0, -1]
    moved = realign(torch.tensor([[0.2, 0.2, 0.4, 0.2]]), joining_matrix(places, 2), False)
    torch.testing.assert_close(moved, torch.tensor([[0.5, 0.5]]))
    assert realign(torch.tensor([[0.0, 0.0, 0.0, 1.0]]), joining_matrix(places, 2), False).isnan().all()
    (tmp_path / "mapping.json").write_text(json.dumps({"tabby": "cat"}))
    assert read_mapping(tmp_path / "mapping.json") == {"tabby": "cat"}
    with pytest.raises(UserError, match="'lion'"):
        align_classes(["tabby"], ["cat"], {"lion": "cat"})
    with pytest.raises(UserError, match="'wolf'"):
        align_classes(["tabby"], ["cat"], {"tabby": "wolf"})
    table.write_text("tabby\n")
    with pytest.raises(UserError, match="two columns"):
        read_mapping(table)
    with pytest.raises(UserError, match="cannot read"):
        read_mapping(tmp_path / "nothing.csv")
    for content in ("[1]", "{", '{"tabby": ["cat"]}'):
        (tmp_path / "mapping.json").write_text(content)
        with pytest.raises(UserError, match="expected a JSON object from classifier class"):
            read_mapping(tmp_path / "mapping.json")


def test_a_mapping_may_use_numbers_and_needs_only_its_own_names_to_be_unique(tmp_path: Path) -> None:
    """ImageNet calls two classes `crane` and two `maillot`."""
    generator, classifier = ["crane", "dog", "crane", "7", "x"], ["bird", "machine", "hound", "bird"]
    assert align_classes(classifier, generator, {"hound": "dog"}).tolist() == [-1, -1, 1, -1]
    by_number = {"0": "0", "machine": "2", "3": "0", "hound": "7"}
    assert align_classes(classifier, generator, by_number).tolist() == [0, 2, 3, 0]
    with pytest.raises(UserError, match=r"'crane', and the generator has 2 classes of that name; .* 0, 2"):
        align_classes(classifier, generator, {"hound": "crane"})
    with pytest.raises(UserError, match="'bird', and the classifier has 2 classes"):
        align_classes(classifier, generator, {"bird": "dog"})
    with pytest.raises(UserError, match=r"'5', which the generator does not have; .* numbers from 0 to 4"):
        align_classes(classifier, generator, {"hound": "5"})
    with pytest.raises(UserError, match=r"maps class 2 of the classifier \('hound'\) to two classes"):
        align_classes(classifier, generator, {"hound": "dog", "2": "0"})
    assert align_classes(classifier, ["Dog, hound", "x"], {"hound": "hound"}).tolist() == [-1, -1, 0, -1]
    table = tmp_path / "mapping.csv"
    table.write_text("hound,dog\nhound,dog\nhound,0\n")
    with pytest.raises(UserError, match="maps 'hound' to two classes"):
        read_mapping(table)
    table.write_text("hound,dog\nhound,dog\n3,0\n")
    assert read_mapping(table) == {"hound": "dog", "3": "0"}


def test_realigning_is_the_sum_by_index() -> None:
    places = np.random.default_rng(0).integers(-1, 5, 40)
    p = torch.rand(8, 40).softmax(dim=1)
    expected = torch.zeros(8, 5, dtype=torch.float64)
    for i, place in enumerate(places):
        if place >= 0:
            expected[:, place] += p[:, i].double()
    expected /= expected.sum(dim=1, keepdim=True)
    torch.testing.assert_close(
        realign(p, joining_matrix(places, 5), False), expected.float(), rtol=1e-6, atol=0
    )


def test_features_and_outputs_of_a_mapped_classifier_come_in_one_pass() -> None:
    spec = ClassifierSpec("small", ("a", "b", "c"), channels=1, resolution=16)
    inner = Classifier(build("small", 3, 1), spec).eval()
    mapped = aligned(inner, ["x", "y"], {"a": "y", "b": "x", "c": "y"})
    images = torch.randint(0, 256, (4, 1, 16, 16), dtype=torch.uint8)
    with torch.inference_mode():
        features, logits = mapped.embed(images)
        torch.testing.assert_close(features, inner.features(images))
        torch.testing.assert_close(logits, mapped(images))
    assert logits.shape == (4, 2)
    only = aligned(inner, ["x", "y"], {"a": "y"})
    require_defined(only(images))
    with pytest.raises(UserError, match="no probability on any mapped class"):
        require_defined(torch.tensor([[float("nan"), 0.0]]))
