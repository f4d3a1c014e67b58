"""Fixed points: what small runs on the embedded kit put into shards, and resolved configurations.

A change here is a change that users' directories, configurations or scripts meet: record it anew (`record.py`) only when it is meant.
"""

from __future__ import annotations

import importlib.util
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ppcore.shards import RawSample, ShardSet

pytestmark = pytest.mark.slow

_spec = importlib.util.spec_from_file_location("golden_record", Path(__file__).parent / "record.py")
assert _spec is not None
assert _spec.loader is not None
record = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(record)

GOLDEN: dict[str, Any] = json.loads(record.RECORD.read_text())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    record.make(folder)
    return folder


def test_shards_are_as_recorded(made: Path) -> None:
    if record.processor() != GOLDEN["processor"]:
        pytest.skip(f"recorded on {GOLDEN['processor']}, this is {record.processor()}: other last bits")
    assert record.shards(made) == GOLDEN["shards"]


@pytest.mark.parametrize("kind", ["synth", "pseudo"])
def test_shards_agree_on_every_processor(made: Path, kind: str) -> None:
    assert record.differences(made / kind, record.MADE / kind) == []


def test_configurations_and_numbers_agree_on_every_processor(made: Path) -> None:
    assert record.configurations(made) == GOLDEN["configurations"]
    numbers, recorded = record.numbers(), GOLDEN["numbers"]
    assert numbers.pop("noise") == pytest.approx(recorded.pop("noise"), abs=1e-5)
    assert numbers == recorded


def _edit_json(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def _edit_table(path: Path, column: str, change: Callable[[list[Any]], list[Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path, use_threads=False)
    values = pa.array(change(table.column(column).to_pylist()), table.schema.field(column).type)
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, table.schema.field(column), values), path)


def _seed(values: list[Any]) -> list[Any]:
    return [values[0] + 1, *values[1:]]


def _swap(values: list[Any]) -> list[Any]:
    return [values[1], values[0], *values[2:]]


def _double(values: list[Any]) -> list[Any]:
    return [[2 * p for p in row] if isinstance(row, list) else 2 * row for row in values]


def test_differences_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison for every processor must be able to fail, for each thing that it compares."""
    recorded = record.MADE / "pseudo"
    changes: dict[str, Callable[[Path], None]] = {
        "seed": lambda out: _edit_json(out / "plan.json", lambda plan: plan.update(seed=8)),
        "target": lambda out: _edit_json(out / "plan.json", lambda plan: plan["target"].update(images=9)),
        "manifest.parquet: seed": lambda out: _edit_table(out / "manifest.parquet", "seed", _seed),
        "manifest.parquet: target_id": lambda out: _edit_table(out / "manifest.parquet", "target_id", _swap),
        "manifest.parquet: confidence": lambda out: _edit_table(
            out / "manifest.parquet", "confidence", _double
        ),
        "conditions.parquet: soft": lambda out: _edit_table(out / "conditions.parquet", "soft", _double),
    }
    for number, (name, change) in enumerate(changes.items()):
        out = shutil.copytree(recorded, tmp_path / str(number))
        assert record.differences(out, recorded) == []
        change(out)
        assert record.differences(out, recorded) == [name]
    fetch, out = ShardSet.fetch, tmp_path / "images"
    shutil.copytree(recorded, out)

    def brighter(levels: int, opened: ShardSet, sample: int) -> RawSample:
        raw, buffer = fetch(opened, sample), io.BytesIO()
        if opened.store.root != str(out) or sample:
            return raw
        pixels = np.asarray(Image.open(io.BytesIO(raw.image))).copy()
        pixels[0, 0] += levels if pixels[0, 0] < 128 else -levels
        Image.fromarray(pixels).save(buffer, "PNG")
        return replace(raw, image=buffer.getvalue())

    for levels, differences in ((1, []), (2, ["image of 000000000: 2 grey levels"])):
        monkeypatch.setattr(ShardSet, "fetch", lambda opened, n, levels=levels: brighter(levels, opened, n))
        assert record.differences(out, recorded) == differences


def test_contents_tell_files_apart(tmp_path: Path) -> None:
    """The digests of the test above must be able to fail."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name, values in (("a", [1, 2]), ("b", [1, 3])):
        pq.write_table(pa.table({"x": values}), tmp_path / f"{name}.parquet")
    assert record.parquet_content(tmp_path / "a.parquet") != record.parquet_content(tmp_path / "b.parquet")


def test_directories_of_an_earlier_program_still_open(tmp_path: Path) -> None:
    """Made by the first program of format version 2; every later one must verify, read and resume them."""
    shutil.copytree(Path(__file__).parent / "version-2", tmp_path, dirs_exist_ok=True)
    # Repeating the request resumes: the plan is accepted and nothing is left to do.
    record.run(
        ["ppgen verify synth", "ppgen verify pseudo", *(f"ppgen {again}" for again in record.RUNS.values())],
        tmp_path,
    )
    for kind in ("synth", "pseudo"):
        shards = ShardSet.open(str(tmp_path / kind), kind=kind)
        assert [shard.samples for shard in shards.shards] == [8, 8]
        assert sum(len(list(shards.read(shard))) for shard in shards.shards) == 16
