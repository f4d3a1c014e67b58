"""The table of targets known by name: what it states, where copies are looked for, and what happens without one."""

import re
from dataclasses import replace

import pytest
from miniatures import MINIATURES, SIZES
from typer.testing import CliRunner

from ppcore.errors import UserError
from ppcore.targets import NAMED, list_targets, load_target, may_be_named
from ppgen.cli import app

OFFICIAL = {
    "cars": (196, 8144, 8041),
    "aircraft": (100, 6667, 3333),
    "cub": (200, 5994, 5794),
    "dtd": (47, 3760, 1880),
    "flowers": (102, 2040, 6149),
    "pets": (37, 3680, 3669),
    "dogs": (120, 12000, 8580),
    "indoor67": (67, 5360, 1340),
    "caltech256-60": (256, 15360, 14420),
}


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """No copy is here and no network either."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PPTRANSFER_DATA", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.snapshot_download", _offline)


def _offline(*_args, **_kwargs):
    raise ConnectionError("offline")


def test_official_sizes():
    assert {n: (NAMED[n].classes, NAMED[n].train, NAMED[n].test) for n in OFFICIAL} == OFFICIAL
    assert NAMED["caltech256-60"].train == NAMED["caltech256-60"].classes * 60


@pytest.mark.parametrize("target", NAMED.values(), ids=lambda target: target.name)
def test_every_row_is_whole(target):
    assert target.licence
    assert target.title
    assert target.page.startswith("http")
    ways = [target.torchvision, target.hub, target.steps, target.read]
    assert sum(bool(way) for way in ways) == 1
    assert target.gigabytes > 0 or target.read is not None
    assert re.fullmatch(r"|hf://datasets/[\w-]+/[\w-]+@[0-9a-f]{40}", target.hub)
    if target.torchvision:
        from torchvision import datasets

        assert hasattr(datasets, target.torchvision)


def test_names_may_stand_in_a_strangers_plan_but_directories_may_not():
    assert all(may_be_named(name) for name in NAMED)
    assert not may_be_named("cars=/data/cars")
    assert not may_be_named("mine=/data/cars")


def test_only_digits_are_here():
    assert [state.target.name for state in list_targets() if state.local] == ["digits"]


def test_a_local_copy_is_seen_and_read(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PPTRANSFER_DATA", "~/kept")
    MINIATURES["dtd"](tmp_path / "kept" / "dtd")
    MINIATURES["pets"](tmp_path / "data" / "pets")
    there = {state.target.name: state.where for state in list_targets() if state.local}
    assert there["dtd"] == f"local: {tmp_path}/kept/dtd"
    assert there["pets"] == "local: data/pets"
    classes, train, test = SIZES["dtd"]
    monkeypatch.setitem(NAMED, "dtd", replace(NAMED["dtd"], classes=classes, train=train, test=test))
    assert load_target("dtd").name == "dtd"


def test_cars_without_copy_or_network_says_what_to_do():
    with pytest.raises(UserError, match="a local copy"):
        load_target("cars")


@pytest.mark.parametrize(
    "name", [name for name, target in NAMED.items() if not target.hub and not target.read]
)
def test_without_copy_or_network_the_page_is_named(name):
    with pytest.raises(UserError, match=re.escape(NAMED[name].page)) as caught:
        load_target(name)
    assert f"--target {name}=DIR" in str(caught.value)


def _downloads(write):
    """A class of torchvision.datasets whose download is `write`."""

    def download(root, download):
        assert download
        write(root)

    return download


def test_a_download_is_whole_or_not_there(tmp_path, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    classes, train, test = SIZES["dtd"]
    monkeypatch.setitem(NAMED, "dtd", replace(NAMED["dtd"], classes=classes, train=train, test=test))

    def broken(root):
        MINIATURES["dtd"](tmp_path / "data" / root.rsplit("/", 1)[-1])
        raise OSError("connection reset")

    monkeypatch.setattr("torchvision.datasets.DTD", _downloads(broken))
    with pytest.raises(UserError, match="connection reset"):
        load_target("dtd")
    assert [p.name for p in (tmp_path / "data").iterdir()] == [".dtd.lock"]

    from pathlib import Path

    monkeypatch.setattr("torchvision.datasets.DTD", _downloads(lambda root: MINIATURES["dtd"](Path(root))))
    assert len(load_target("dtd").train) == 4
    monkeypatch.setattr("torchvision.datasets.DTD", _downloads(broken))
    assert len(load_target("dtd").train) == 4


def test_the_command_lists_them_all(tmp_path):
    MINIATURES["food101"](tmp_path / "data" / "food101")
    shown = CliRunner().invoke(app, ["targets"], catch_exceptions=False)
    assert shown.exit_code == 0
    rows = {line.split()[0]: line for line in shown.output.splitlines() if line}
    assert set(NAMED) <= set(rows)
    assert rows["dogs"].split()[1:7] == ["120", "12,000", "8,580", "by", "hand,", "0.82"]
    assert "would download, 2.75 GB" in rows["aircraft"]
    assert "local: data/food101" in rows["food101"]
    assert (
        "cub: unpack CUB_200_2011.tgz from https://data.caltech.edu/records/65de6-vp158 into data/cub"
        in shown.output
    )


def test_the_command_looks_through_a_target(tmp_path):
    MINIATURES["indoor67"](tmp_path / "scenes")
    fine = CliRunner().invoke(app, ["targets", "scenes"], catch_exceptions=False)
    assert fine.exit_code == 0
    assert "scenes: 2 classes, 4 training images (2 to 2 a class), 2 test images" in fine.output
    (tmp_path / "scenes/Images/winecellar/int1.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    broken = CliRunner().invoke(app, ["targets", "scenes"], catch_exceptions=False)
    assert broken.exit_code == 1
    assert "1 images cannot be read" in broken.output
    assert "winecellar/int1.jpg is damaged" in broken.output
