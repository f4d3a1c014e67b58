"""Networks that people use, from pre-training to the exported file, at a small size; `python benchmarks/zoo.py` has all at their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from toyshards import CLASSES, ShardWriter

from benchmarks.zoo import STAGES, Data, examine, table

SMALL = {
    "mnasnet1_0": 32,
    "squeezenet1_1": 32,
    "timm/test_efficientnet": 64,
    "timm/test_resnet": 64,
    "timm/test_vit": 160,
    "benchmarks.zoo_networks:Lazy": 32,
    "benchmarks.zoo_networks:Tied": 32,
    "benchmarks.zoo_networks:TwoHeads": 32,
}


@pytest.fixture
def data(write_shards: ShardWriter, target_folder: Path) -> Data:
    """Shards of other classes than those of the target."""
    plan = {"source": {"name": "toy", "class_names": [f"source {name}" for name in CLASSES]}}
    pseudo = write_shards("pseudo", [8, 8], kind="pseudo", plan=plan)
    return Data(str(write_shards("synth", [8, 8], plan=plan)), str(pseudo), str(target_folder))


@pytest.mark.parametrize("arch", list(SMALL))
def test_a_network_works_from_pre_training_to_its_exported_file(
    arch: str, data: Data, tmp_path: Path
) -> None:
    out = tmp_path / "runs"
    out.mkdir()
    row = examine(arch, data, out, side=SMALL[arch], batch=4)
    assert row["stages"] == dict.fromkeys(STAGES, "")
    assert f"| `{arch}` | {SMALL[arch]} |" in table([row], [])


def test_a_network_that_is_refused_is_a_row(data: Data, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    out.mkdir()
    row = examine("benchmarks.zoo_networks:Prototypes", data, out, side=32)
    assert row["refused"]
    assert list(row["stages"]) == ["PP"]
    assert "| refused |" in table([row], [])
