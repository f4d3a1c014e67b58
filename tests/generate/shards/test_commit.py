"""Commit records: those of format version 2 are read and written byte for byte; what no writer of ours states is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ppcore.shards import commit_path
from ppcore.storage import Store
from ppgen.shards.commit import read_commit, write_commit

VERSION_2 = Path(__file__).parents[2] / "golden" / "version-2"


@pytest.mark.parametrize("kind", ["synth", "pseudo"])
def test_a_record_of_version_2_comes_out_as_it_went_in(kind: str, tmp_path: Path) -> None:
    commit = read_commit(Store(VERSION_2 / kind), 1)
    assert (commit.shard, commit.samples, commit.first_index) == (1, 8, 8)
    write_commit(Store(tmp_path), commit)
    assert (tmp_path / commit_path(1)).read_bytes() == (VERSION_2 / kind / commit_path(1)).read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"samples": -1},
        {"samples": 8.0},
        {"samples": "8"},
        {"first_index": 10**12},
        {"fingerprint": "../../x"},
        {"tar": {"bytes": -1, "sha256": "0" * 64}},
        {"tar": {"bytes": 1 << 50, "sha256": "0" * 64}},
        {"parquet": {"bytes": 1, "sha256": "0" * 63 + "\n"}},
        {"seconds": {"sampling": float("nan"), "total": 0}},
        {"versions": {"torch": ["2"]}},
    ],
)
def test_a_record_out_of_bounds_is_damaged(change: dict[str, Any], tmp_path: Path) -> None:
    record = json.loads((VERSION_2 / "synth" / commit_path(1)).read_text()) | change
    store = Store(tmp_path)
    store.write_atomic(commit_path(1), json.dumps(record).encode())
    with pytest.raises(ValueError, match=next(iter(change))):
        read_commit(store, 1)
