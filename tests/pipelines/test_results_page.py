"""The tables of docs/results.md agree with the CSV files beside it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs/tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_table_is_its_file(tables: ModuleType) -> None:
    page = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    assert tables.rewritten(page) == page
    for results in (ROOT / "docs/results").glob("*.csv"):
        assert f"<!-- table {results.stem} -->" in page, f"{results.name} is shown nowhere"
        assert results.with_suffix(".svg").is_file()


def test_another_result_makes_another_page(
    tables: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "results").mkdir()
    old = (ROOT / "docs/results/condition-search.csv").read_text()
    (tmp_path / "results/condition-search.csv").write_text(old.replace("91.5556", "41.5556"))
    monkeypatch.setattr(tables, "HERE", tmp_path)
    page = "<!-- table condition-search -->\n<!-- end -->\n"
    assert "71." in tables.rewritten(page)  # the mean of PP
