"""The same run through Ray Train: as one process does it, also when a worker is killed."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from plainnet import MARK
from toyshards import ShardWriter

from pptrain.config import TrainConfig, load_config
from pptrain.engine import train

ray = pytest.importorskip("ray")
pytest.importorskip("ray.train")

from pptrain.engine.stages import train_on_ray  # noqa: E402

pytestmark = pytest.mark.slow

HERE = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def mark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that a worker leaves when it dies; see plainnet."""
    return tmp_path_factory.mktemp("mark") / "dead"


@pytest.fixture(scope="module")
def cluster(mark: Path) -> Iterator[None]:
    """A Ray of this machine, whose workers find the helpers beside the tests."""
    paths = os.pathsep.join([str(HERE), *sys.path])
    environment = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", MARK: str(mark)}
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=80 << 20,
        runtime_env={"env_vars": environment},
    )
    yield
    ray.shutdown()


@pytest.fixture
def make_config(
    target_folder: Path, write_shards: ShardWriter, tiny: dict[str, Any], tmp_path: Path
) -> Callable[..., TrainConfig]:
    """make_config(name) -> a UDA run without batch norm, whose statistics are per process."""
    unlabeled = str(write_shards("pseudo", [9, 4, 11, 7], kind="pseudo"))

    def make(name: str) -> TrainConfig:
        settings = {
            **tiny,
            "data.target": str(target_folder),
            "data.unlabeled": unlabeled,
            "data.groups": 2,
            "data.val_fraction": 0.25,
            "method.name": "uda",
            "method.options": {"mu": 2.0, "threshold": 0.3},
            "model.arch": "plainnet:Mortal",
            "loop.checkpoint_every": 3,
            "loop.log_every": 1,
            "loop.amp": "no",
            "loop.device": "cpu",
            "out": str(tmp_path / name),
        }
        return load_config(overrides=settings)

    return make


def losses(run: Path) -> dict[int, float]:
    """Loss by step."""
    return {int(row["step"]): float(row["loss"]) for row in csv.DictReader((run / "metrics.csv").open())}


@pytest.mark.usefixtures("cluster")
def test_two_workers_of_which_one_is_killed_match_one_process(
    make_config: Callable[..., TrainConfig], mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hit = train_on_ray(make_config("two"), 2)
    assert mark.exists(), "nobody died"
    assert hit.fresh
    assert hit.accuracy is not None
    monkeypatch.setenv(MARK, str(mark))
    one = train(make_config("one"), quiet=True)
    a, b = losses(one.out), losses(hit.out)
    assert list(a) == list(b) == list(range(1, 13))
    assert b == pytest.approx(a, abs=1e-4)
    assert not train_on_ray(make_config("two"), 2).fresh


def test_a_finished_run_is_known_again_where_the_parts_of_a_batch_were_left_open(
    make_config: Callable[..., TrainConfig],
) -> None:
    """Two processes make two parts of it; a finished run needs no cluster to be told."""
    two = make_config("open")
    train(two, quiet=True)
    left_open = replace(two, data=replace(two.data, groups=0))
    assert not train_on_ray(left_open, 2, address="nowhere:1").fresh
