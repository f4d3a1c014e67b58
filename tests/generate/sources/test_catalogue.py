"""Licences, the catalogue, and whether it is true of the embedded kit."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_models import one_hot
from torch.utils.flop_counter import FlopCounterMode

from ppcore.classifiers import load_classifier
from ppcore.errors import UserError
from ppcore.kits import list_kits
from ppgen.cli.commands import app
from ppgen.generators import load_generator
from ppgen.sources.catalogue import COSTS, _stored_values, require_licence, source_rows


def test_licences_can_be_restricted() -> None:
    require_licence("dit-xl-2-256", "CC-BY-NC-4.0", ())
    require_licence("dit-xl-2-256", "CC-BY-NC-4.0", ("cc-by-nc-4.0",))
    require_licence("letters", "Apache-2.0", ("commercial",))
    require_licence("somewhere/else", "mit", ("commercial",))
    for allowed in (("commercial",), ("MIT", "Apache-2.0")):
        with pytest.raises(UserError, match=r"CC-BY-NC-4\.0"):
            require_licence("dit-xl-2-256", "CC-BY-NC-4.0", allowed)
    with pytest.raises(UserError, match="unknown"):
        require_licence("somewhere/else", "unknown", ("commercial",))


def test_the_catalogue_lists_every_kit() -> None:
    rows = {row.kit.name: row for row in source_rows()}
    assert list(rows) == [kit.name for kit in list_kits()]
    assert rows["dit-xl-2-256"].gflop == pytest.approx(26 * 237.3 + 622.2)
    assert (rows["dit-xl-2-256"].classes, rows["dit-xl-2-256"].kit.commercial) == (1000, False)
    assert rows["letters"].classes == 42
    assert "dit-xl-2-256" not in {row.kit.name for row in source_rows(("commercial",))}


def test_sources_for_products_come_first(capsys: pytest.CaptureFixture[str]) -> None:
    app(args=["sources"], standalone_mode=False)
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()[1:]}
    rows = {row.kit.name: row.kit.commercial for row in source_rows()}
    assert list(lines) == sorted(rows, key=lambda name: not rows[name])
    assert re.search(r" MIT +yes +375\.1 M +0\.75 +990\.7 +0\.46 ", lines["var-d16-256"])


def test_the_catalogue_is_true_of_the_embedded_kit() -> None:
    generator = load_generator("letters", device="cpu")
    assert generator.evaluations() == COSTS["letters"].evaluations  # type: ignore[attr-defined]
    with FlopCounterMode(display=False) as counter:
        generator.sample(one_hot([0], 42), torch.arange(1))
    assert counter.get_total_flops() / 1e9 == pytest.approx(COSTS["letters"].image, rel=0.01)


def test_a_sweep_between_letters_moves_the_classifier_steadily() -> None:
    """From class a to class b, the classifier's mean probability of b rises and that of a falls at every step."""
    generator, classifier = load_generator("letters", device="cpu"), load_classifier("letters")
    seeds = torch.arange(24)
    for a, b in (("A", "O"), ("L", "Z")):
        i, j = generator.class_names.index(a), generator.class_names.index(b)
        seen = []
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            condition = torch.zeros(len(seeds), 42)
            condition[:, i], condition[:, j] = 1 - share, share
            with torch.inference_mode():
                mean = classifier(generator.sample(condition, seeds)).softmax(1).mean(0)
            seen.append((float(mean[i]), float(mean[j])))
        fall, rise = zip(*seen, strict=True)
        assert all(x > y for x, y in pairwise(fall))
        assert all(x < y for x, y in pairwise(rise))
        assert fall[0] > 0.7
        assert rise[-1] > 0.7


def test_parameters_are_counted_from_the_headers(tmp_path: Path) -> None:
    assert _stored_values(tmp_path / "nothing") is None
    (tmp_path / "part").mkdir()
    save_file({"a": torch.zeros(2, 3), "b": torch.zeros(())}, tmp_path / "part" / "x.safetensors")
    assert _stored_values(tmp_path) == 7
