"""Shard directories made to do harm: verify, gather, report, a resumed run and the trainer's reader refuse them in words.

Documents and links here, tars, pictures and tables in test_hostile_files.py; the tar reader's own part is in tests/core/test_shards.py.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile import forge_plan, refusals
from rig import stored, synth

from ppcore.errors import UserError
from ppcore.shards import ShardSet
from ppgen.upkeep.verify import Problems, requeue_shards, verify_directory

# ---- plan.json, index.json, commit records


def deep(out: Path) -> None:
    (out / "plan.json").write_text("[" * 200_000)


def endless_shards(out: Path) -> None:
    def change(plan: dict[str, Any]) -> None:
        plan["segments"] = [{"start": 0, "samples": 3 * 10**17, "per_class": 10**17}]
        plan["samples_per_shard"] = 1

    forge_plan(out, change)


def enormous_pictures(out: Path) -> None:
    forge_plan(out, lambda plan: plan.update(resolution=10**7))


def odd_types(out: Path) -> None:
    forge_plan(out, lambda plan: plan.update(encoding=[["png"]], classes=[{"a": 1}]))


def escapes(out: Path) -> None:
    forge_plan(out, lambda plan: plan.update(version="\x1b]0;gone\x07"))


@pytest.mark.parametrize("tamper", [deep, endless_shards, enormous_pictures, odd_types, escapes])
def test_plans(copy: Path, tamper: Callable[[Path], None]) -> None:
    tamper(copy)
    assert len(refusals(copy)) >= 2  # the trainer does not look at everything


@pytest.mark.parametrize(
    "record",
    [[], {}, {"tar": 3}, {"fingerprint": "x", "samples": 20, "tar": "x", "parquet": []}, "[" * 200_000],
    ids=["list", "empty", "number", "strings", "deep"],
)
def test_commit_records(copy: Path, record: Any) -> None:
    (copy / "commits/000001.json").write_text(record if isinstance(record, str) else json.dumps(record))
    messages = refusals(copy)
    assert "damaged commit record" in messages[0]


@pytest.mark.parametrize(
    "change", [{"nsamples": 10**15}, {"nsamples": -1}, {"url": "../../x"}, {"url": "/etc/passwd"}]
)
def test_indexes(copy: Path, change: dict[str, Any]) -> None:
    index = json.loads((copy / "index.json").read_text())
    index["shardlist"][1] |= change
    (copy / "index.json").write_text(json.dumps(index))
    messages = refusals(copy)
    assert len(messages) == 2  # gather makes a new index and does not read this one
    with pytest.raises(UserError, match="damaged"):
        ShardSet.open(str(copy))


# ---- links


def test_nothing_behind_a_link_is_deleted(copy: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    shutil.move(copy / "shards", precious)
    for name in ("000777.tar", ".tmp-mine", "letter.txt"):
        (precious / name).write_text("precious")
    before = sorted(precious.iterdir())
    (copy / "shards").symlink_to(precious)
    store, plan = stored(copy)
    with pytest.raises(UserError, match="symbolic link"):  # nor are the names of its files told
        verify_directory(store, plan)
    with pytest.raises(UserError, match="symbolic link"):
        requeue_shards(store, plan, Problems())
    (copy / "commits/000001.json").unlink()
    with pytest.raises(UserError, match="symbolic link"):
        synth(copy)
    assert sorted(precious.iterdir()) == before


def test_a_resumed_run_survives_hostile_files(copy: Path, sound: Path, tmp_path: Path) -> None:
    """Links in the place of files are replaced, never written through."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    for name in ("shards/000001.tar", "commits/000001.json", "index.json", "README.md"):
        (copy / name).unlink()
        (copy / name).symlink_to(secret)
    assert synth(copy) == 0
    assert secret.read_text() == "secret"
    assert (copy / "shards/000001.tar").read_bytes() == (sound / "shards/000001.tar").read_bytes()
    assert verify_directory(*stored(copy)).ok
