"""Settings of small whole runs of each kind."""

from __future__ import annotations

from pathlib import Path

import pytest
from toyshards import ShardWriter
from trainruns import Settings


@pytest.fixture
def supervised(target_folder: Path, tiny: Settings) -> Settings:
    return {**tiny, "data.target": str(target_folder), "data.labels_per_class": 3}


@pytest.fixture
def uda(supervised: Settings, write_shards: ShardWriter) -> Settings:
    root = write_shards("pseudo", [9, 4, 11], kind="pseudo")
    return {**supervised, "data.unlabeled": str(root), "method.name": "uda", "method.options": {"mu": 2.0}}


@pytest.fixture
def pretraining(write_shards: ShardWriter, tiny: Settings) -> Settings:
    root = write_shards("synth", [9, 4, 11, 8])
    return {**tiny, "data.shards": str(root), "data.resident_mb": 0, "data.workers": 2}
