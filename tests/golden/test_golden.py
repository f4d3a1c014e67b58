"""Fixed points: what small runs on the embedded kit put into shards, and resolved configurations.

A change here is a change that users' directories, configurations or scripts meet: record it anew (`record.py`) only when it is meant.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ppcore.shards.reader import ShardSet

pytestmark = pytest.mark.slow

_spec = importlib.util.spec_from_file_location("golden_record", Path(__file__).parent / "record.py")
assert _spec is not None
assert _spec.loader is not None
record = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(record)

GOLDEN: dict[str, Any] = json.loads(record.RECORD.read_text())


def test_shards_and_configurations_are_as_recorded(tmp_path: Path) -> None:
    if record.processor() != GOLDEN["processor"]:
        pytest.skip(f"recorded on {GOLDEN['processor']}, this is {record.processor()}: other last bits")
    assert record.contents(tmp_path) == {name: GOLDEN[name] for name in ("shards", "configurations")}


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
