"""A list of shards that would outgrow the reader of JSON is spread over pages; here a page is three shards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from rig import fingerprints, stored, synth

from ppcore.errors import UserError
from ppcore.shards import ShardSet, layout, read_index
from ppcore.storage import MAX_JSON_BYTES, Store
from ppgen.engines import run
from ppgen.shards import make_index, read_commit
from ppgen.upkeep import gather, requeue_shards, verify_directory


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "PAGE_SHARDS", 3)


@pytest.fixture
def paged(tmp_path: Path) -> Path:
    """75 pictures in 4 shards."""
    assert synth(tmp_path / "out") == 0
    return tmp_path / "out"


def test_a_long_list_is_paged(paged: Path) -> None:
    index = json.loads((paged / "index.json").read_text())
    assert "shardlist" not in index
    assert index["pages"] == [
        {"url": "index/000000.json", "nshards": 3},
        {"url": "index/000001.json", "nshards": 1},
    ]
    shards = ShardSet.open(str(paged))
    assert [(shard.index, shard.samples) for shard in shards.shards] == [(0, 20), (1, 20), (2, 20), (3, 15)]
    assert shards.fetch(74).key == "000000074"
    assert verify_directory(*stored(paged)).ok


def test_the_card_says_how_to_read_it(paged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (paged / "README.md").read_text().split("```python\n")[1].split("```")[0]
    lines = [line for line in code.splitlines() if line.startswith(("pages =", "urls ="))]
    monkeypatch.chdir(paged)
    names: dict[str, object] = {"json": json}
    exec("\n".join(lines), names)
    assert names["urls"] == [f"shards/{shard:06d}.tar" for shard in range(4)]


def test_a_short_list_stays_as_it_was(tmp_path: Path, paged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "PAGE_SHARDS", 4)
    assert synth(tmp_path / "one") == 0
    assert not (tmp_path / "one" / "index").exists()
    listed = json.loads((tmp_path / "one" / "index.json").read_text())["shardlist"]
    assert listed == [
        entry
        for page in (0, 1)
        for entry in json.loads((paged / f"index/00000{page}.json").read_text())["shardlist"]
    ]


def test_an_interrupted_run_withdraws_and_remakes_the_index(
    paged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fingerprints(paged)
    (paged / "commits/000003.json").unlink()

    def stopped(*_: object) -> None:
        assert not (paged / "index.json").exists()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run, "make_shards", stopped)
        synth(paged)
    with pytest.raises(UserError, match="is not finished"):
        ShardSet.open(str(paged))
    assert synth(paged) == 0
    assert fingerprints(paged) == before


@pytest.mark.parametrize("how", ["missing", "short", "other", "stray", "damaged"])
def test_pages_are_proved_and_repaired(paged: Path, how: str) -> None:
    page = paged / "index/000000.json"
    content = json.loads(page.read_text())
    if how == "missing":
        page.unlink()
    elif how == "short":
        page.write_text(json.dumps({"shardlist": content["shardlist"][:2]}))
    elif how == "other":
        content["shardlist"][1]["sha256"] = "0" * 64
        page.write_text(json.dumps(content))
    elif how == "stray":
        shutil.copy(page, paged / "index/000007.json")
    else:
        page.write_text("{")
    store, plan = stored(paged)
    found = verify_directory(store, plan)
    assert any("index/" in problem for problem in found.general)
    if how in ("missing", "short", "damaged"):
        with pytest.raises(UserError, match=r"damaged plan\.json or index\.json"):
            ShardSet.open(str(paged))
    requeue_shards(store, plan, found)
    assert synth(paged) == 0
    assert verify_directory(*stored(paged)).ok


@pytest.mark.parametrize(
    "url", ["../../elsewhere.json", "/etc/passwd", "index/000001.json", "commits/000000.json"]
)
def test_pages_are_where_pages_are(paged: Path, url: str) -> None:
    index = json.loads((paged / "index.json").read_text())
    index["pages"][0]["url"] = url
    (paged / "index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="page"):
        read_index(Store(paged))


def test_gathered_directories_are_paged(paged: Path, tmp_path: Path) -> None:
    gather([Store(paged)], Store(tmp_path / "all"))
    assert sorted(p.name for p in (tmp_path / "all/index").iterdir()) == ["000000.json", "000001.json"]
    assert fingerprints(tmp_path / "all") == fingerprints(paged)


def test_a_page_of_fifty_thousand_shards_is_small(paged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real page size, on the longest numbers an entry can have; ten million shards are 200 pages."""
    monkeypatch.undo()
    commit = read_commit(Store(paged), 0)
    pages = dict(make_index(stored(paged)[1], [commit] * (layout.PAGE_SHARDS + 1)))
    assert list(pages) == ["index/000000.json", "index/000001.json", "index.json"]
    assert len(json.dumps(pages["index/000000.json"], indent=1)) < MAX_JSON_BYTES / 4
