"""A reader made from docs/reference/shards.md alone reads our directories, and the tables of the page match the code."""

from __future__ import annotations

import html
import json
import re
import shutil
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import foreign
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from ppcore.platforms import Platform
from ppcore.shards import CONDITION_SCHEMA, FORMAT, ROW_SCHEMA, VERSION
from ppgen.cli import app
from ppgen.plan.document import _PseudoDocument, _SynthDocument
from ppgen.shards import ShardCommit

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/golden"
PAGE = (ROOT / "docs/reference/shards.md").read_text()


def _table(name: str) -> dict[str, list[str]]:
    """First cell -> other cells, of the table of this name on the page."""
    block = PAGE.split(f"<!-- table {name} -->")[1].split("<!-- end -->")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.strip().splitlines()[2:]]
    return {row[0].strip("`"): row[1:] for row in rows}


def _ppgen(*words: str) -> None:
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("kind", ["synth", "pseudo"])
def test_a_foreign_reader_understands_the_format(kind: str) -> None:
    assert foreign.check(GOLDEN / "version-2" / kind) == 16


def test_the_foreign_reader_notices_what_is_wrong(tmp_path: Path) -> None:
    root = shutil.copytree(GOLDEN / "version-2/synth", tmp_path / "synth")
    plan = json.loads((root / "plan.json").read_text())
    (root / "plan.json").write_text(json.dumps({**plan, "seed": 8}))
    with pytest.raises(AssertionError):
        foreign.check(root)
    changed = {**plan, "seed": 8}
    changed["fingerprint"] = foreign.plan_fingerprint(changed)
    (root / "plan.json").write_text(json.dumps(changed))
    with pytest.raises(AssertionError):
        foreign.check(root)


@pytest.mark.slow
def test_extended_and_drawn_directories_too(tmp_path: Path) -> None:
    one = str(tmp_path / "one")
    tiny = ("--source", "letters", "--workers", "1", "--batch-size", "4", "--samples-per-shard", "5")
    _ppgen("synth", *tiny, "--classes", "0,3,17", "--per-class", "2", "--out", one)
    _ppgen("extend", one, "--per-class", "5", "--workers", "1")
    assert foreign.check(tmp_path / "one") == 15
    for mode in ("draw", "uniform"):
        out = str(tmp_path / mode)
        words = ("--target", "digits", "--labels-per-class", "1", "--count", "12", "--condition", mode)
        _ppgen("pseudo", *tiny, *words, "--out", out)
        assert foreign.check(tmp_path / mode) == 12


def test_the_page_is_of_this_version() -> None:
    assert f"Version {VERSION} of `{FORMAT}`" in PAGE
    assert _table("plan")["version"][1].startswith(f"`{VERSION}`")


@pytest.mark.parametrize(("name", "schema"), [("rows", ROW_SCHEMA), ("conditions", CONDITION_SCHEMA)])
def test_tables_of_columns(name: str, schema: pa.Schema) -> None:
    columns = [(column, html.unescape(row[0]), row[1]) for column, row in _table(name).items()]
    assert columns == [
        (field.name, _spelt(field.type), "yes" if field.nullable else "no") for field in schema
    ]


def _spelt(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"list<{_spelt(kind.value_type)}>"
    return "float32" if kind == pa.float32() else str(kind)


def _check_types(name: str, document: dict[str, Any]) -> None:
    """Check that every field of a document is in the table, with its type."""
    kinds = {"string": str, "integer": int, "object": dict, "array": list, "null": type(None)}
    table = _table(name)
    assert set(document) <= set(table)
    for field, value in document.items():
        allowed = [kind for word, kind in kinds.items() if re.search(rf"\b{word}\b", table[field][0])]
        assert isinstance(value, tuple(allowed)), field


@pytest.mark.parametrize("kind", ["synth", "pseudo"])
def test_tables_of_documents(kind: str) -> None:
    root = GOLDEN / "version-2" / kind
    plan = json.loads((root / "plan.json").read_text())
    _check_types("plan", plan)
    assert set(plan) == set(_table("plan"))
    _check_types("commit", json.loads((root / "commits/000000.json").read_text()))
    index = json.loads((root / "index.json").read_text())
    _check_types("index", index)
    assert set(index) == set(_table("index"))
    assert set(index["shardlist"][0]) <= set(re.findall(r"`(\w+)`", _table("index")["shardlist"][1]))


def test_tables_are_the_types_that_read_the_documents() -> None:
    for kind in (_SynthDocument, _PseudoDocument):
        assert {field.name for field in fields(kind)} == set(_table("plan"))
    commit = _table("commit")
    assert [field.name for field in fields(ShardCommit)] == list(commit)
    for field in fields(ShardCommit):
        optional = field.default is not MISSING
        assert optional == commit[field.name][0].endswith(", optional"), field.name
    said = set(re.findall(r"`(\w+)`", _table("commit")["platform"][1]))
    assert said == {field.name for field in fields(Platform)}
