"""Figures and messages that pages repeat: they must be those of the code and of the stored results."""

from __future__ import annotations

import ast
import csv
import re
from collections import defaultdict
from pathlib import Path
from statistics import mean

import pytest

from ppgen.sources import source_rows

ROOT = Path(__file__).parents[2]
IMAGES = 1.3e6
RATE = 777e12  # FLOP/s of bfloat16 matrix products on an H200: benchmarks/README.md
COST = (ROOT / "docs/howto/cost.md").read_text()
README = (ROOT / "README.md").read_text()


def _rows(text: str) -> list[list[str]]:
    """The cells of every table row."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]


def _hours(gflop: float | None) -> float:
    assert gflop is not None
    return gflop * 1e9 * IMAGES / RATE / 3600


def test_costs_follow_from_the_arithmetic_that_ppgen_sources_prints() -> None:
    table = COST.split("<!-- table cost -->")[1].split("<!-- end -->")[0]
    pages = {cells[0].strip("`"): cells[1:] for cells in _rows(table)[2:]}
    assert set(pages) == {row.kit.name for row in source_rows()}
    for row in source_rows():
        gflop, hours, weights, product = pages[row.kit.name]
        assert gflop == f"{row.gflop:,.1f}"
        assert float(hours) == pytest.approx(_hours(row.gflop), rel=0.2)
        assert row.parameters is not None
        assert float(weights.removesuffix(" GB")) == pytest.approx(
            2 * row.parameters / 1e9, rel=0.2, abs=0.006
        )
        assert product == ("yes" if row.kit.commercial else "no")
    assert "777" in (ROOT / "benchmarks/README.md").read_text()


def test_the_readme_repeats_the_costs() -> None:
    cells = {line[0].split("`")[1]: line for line in _rows(README) if line[0].startswith("`")}
    rows = {row.kit.name: row for row in source_rows()}
    assert {"dit-xl-2-256", "var-d16-256", "letters"} <= set(cells) <= set(rows)
    for name, (_, _, hours, weights, licence, product) in cells.items():
        row = rows[name]
        assert licence == row.kit.licence
        assert product == ("yes" if row.kit.commercial else "no")
        assert row.parameters is not None
        assert float(weights.removesuffix(" GB")) == pytest.approx(
            2 * row.parameters / 1e9, rel=0.2, abs=0.006
        )
        if "measured" not in hours:
            assert float(hours) == pytest.approx(_hours(row.gflop), rel=0.2)


def _means(name: str) -> dict[str, float]:
    """Row -> mean accuracy in percent of docs/results/NAME.csv."""
    values = defaultdict(list)
    with (ROOT / f"docs/results/{name}.csv").open() as file:
        for line in csv.DictReader(file):
            values[line["row"]].append(float(line["accuracy"]))
    scale = 100 if max(max(v) for v in values.values()) <= 1 else 1
    return {row: scale * mean(v) for row, v in values.items()}


def test_the_readme_repeats_the_results() -> None:
    alphabet, kit, photos = _means("condition-alphabet"), _means("cifar-kit"), _means("photos")
    assert f"| {alphabet['PP']:.1f} | {alphabet['PP + condition']:.1f} |" in README
    both = kit["PP + condition, half of the samples PP's own"]
    assert f"| {kit['Scratch']:.1f} | {kit['PP']:.1f} | {both:.1f} |" in README
    taught = "PP + condition + soft + prototypes"
    best, control = photos[f"{taught} (default)"], photos[f"{taught}, uniform (control)"]
    assert f"| {photos['Scratch']:.1f} | {photos['PP']:.1f} | {best:.1f} |" in README
    assert f"equally well ({kit['PP + condition, uniform (control)']:.1f}, {control:.1f})" in README


def _literals() -> str:
    """Every string of the code, the fixed parts of f-strings joined with a gap."""
    texts = []
    for folder in ("core", "generate", "train", "pipelines"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    parts = [str(p.value) if isinstance(p, ast.Constant) else "\0" for p in node.values]
                    texts.append("".join(parts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.append(node.value)
    return "\n".join(texts)


def test_troubleshooting_quotes_real_messages() -> None:
    page, code = (ROOT / "docs/troubleshooting.md").read_text(), _literals()
    quoted = [cells[0] for cells in _rows(page) if cells[0].startswith("`")]
    assert len(quoted) >= 20
    for cell in quoted:
        if "from PyTorch" in cell:
            continue
        for message in re.findall(r"`([^`]+)`", cell):
            for part in message.split(" ... "):
                assert part in code, f"no message says {part!r}"
