"""Options declared once, flattened for typer and put together again."""

from __future__ import annotations

import inspect

import pytest

from ppcore.errors import UserError
from ppgen.cli import read_options
from ppgen.cli.commands import plan_synth, synth
from ppgen.cli.flatten import assemble, option_parameters
from ppgen.options import EngineOptions, PseudoOptions, SynthOptions


def test_nested_options_stand_in_their_place() -> None:
    names = [parameter.name for parameter in option_parameters(SynthOptions)]
    assert len(names) == len(set(names))
    assert names[:3] == ["source", "classes", "per_class"]
    assert names[names.index("preview") :][:3] == ["preview", "out", "seed"]
    assert list(inspect.signature(synth).parameters) == names
    assert list(inspect.signature(plan_synth).parameters) == [*names, "calibrate", "price_per_hour"]


def test_values_find_their_dataclass_and_the_rest_is_default() -> None:
    options = assemble(PseudoOptions, {"target": "digits", "workers": 2, "seed": 5, "score": True})
    assert options.engine_options == EngineOptions(workers=2)
    assert (options.shards.seed, options.shards.score, options.temperature) == (5, True, None)


@pytest.mark.parametrize(
    ("command", "values", "message"),
    [
        ("synth", {"per_clas": 3}, "ppgen synth has no option 'per_clas'; expected some of address"),
        ("synth", {"shards": 3}, "has no option 'shards'"),
        ("pseudo", {"source": "letters"}, "ppgen pseudo needs the option 'target'"),
        ("synth", {"workers": 0}, "--workers is 0"),
        ("synth", {"address": "auto"}, "--address is an option of Ray"),
    ],
)
def test_wrong_options_are_refused(command: str, values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_options(command, values)


def test_options_have_the_names_of_the_command_line() -> None:
    options = read_options("synth", {"sampler": ["steps=2"], "format": "png", "per_class": 3})
    assert options.source_options.sampler == ["steps=2"]
