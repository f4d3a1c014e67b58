"""What is built: the same bytes every time, with everything inside that an installation needs."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

from wheels import build, copy_tree

from ppcore import __version__

PACKAGES = ("ppcore", "ppgen", "pptrain", "pptransfer", "ppflow")


def _wheel(archives: dict[str, bytes]) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(next(d for name, d in archives.items() if name.endswith(".whl"))))


def test_a_second_build_is_the_same(archives: dict[str, bytes], tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "tree")
    assert build(tree, tmp_path / "again") == archives
    assert len(archives) == 2
    with (tree / "core/ppcore/errors.py").open("a") as handle:  # the comparison must be able to fail
        handle.write("#\n")
    changed = build(tree, tmp_path / "changed")
    assert all(changed[name] != data for name, data in archives.items())


def test_the_wheel_holds_what_the_programs_open(archives: dict[str, bytes]) -> None:
    names = set(_wheel(archives).namelist())
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    kit = "ppcore/embedded/letters/"
    assert {kit + "kit.json", kit + "README.md", kit + "classifier/model.safetensors"} <= names
    assert f"{kit}generator/unet/diffusion_pytorch_model.safetensors" in names
    assert "ppflow/recipes/demo.yaml" in names
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == set(PACKAGES)
    assert not [name for name in names if "__pycache__" in name or name.endswith(".png")]


def test_the_source_archive_builds_and_tests(archives: dict[str, bytes]) -> None:
    data = next(d for name, d in archives.items() if name.endswith(".tar.gz"))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}
    needed = {"pyproject.toml", "constraints.txt", "Makefile", "LICENSE", "README.md", "tests/conftest.py"}
    assert needed <= names


def test_the_wheel_says_what_it_is(archives: dict[str, bytes]) -> None:
    wheel = _wheel(archives)
    inside = {n.split("/")[1]: wheel.read(n).decode() for n in wheel.namelist() if ".dist-info/" in n}
    for name in ("ppgen", "pptrain", "ppflow"):
        assert f"{name} = {name}.cli:main" in inside["entry_points.txt"]
    assert f"\nVersion: {__version__}\n" in inside["METADATA"]
    for extra in ("generate", "train", "text", "export", "s3", "gs"):
        assert f"Provides-Extra: {extra}\n" in inside["METADATA"]
