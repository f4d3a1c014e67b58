"""An experiment on a Ray cluster of two nodes has the same table as on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import inplace
import pytest
from recipes import SMALL

from ppcore.errors import UserError
from ppflow.cli.experiment import RunOptions, run_experiment
from ppflow.jobs import expand
from ppflow.recipe import Resources, load_recipe
from ppflow.runner import RayExecutor

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
_STORE = 80 << 20


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two nodes of one CPU each, so that two parallel jobs run on different nodes."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    here = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    node = {"num_cpus": 1, "object_store_memory": _STORE}
    several = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    several.add_node(**node)
    ray.init(
        address=several.address,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": {"PYTHONPATH": here}},
    )
    yield several
    ray.shutdown()
    several.shutdown()


def rows(printed: str) -> list[str]:
    """The lines of the table."""
    return [line for line in printed.splitlines() if line.startswith("|")]


def test_the_table_is_that_of_an_inline_run(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text(SMALL)
    assert run_experiment(str(recipe), RunOptions(tmp_path / "ray", engine="ray", seeds=1)) == 0
    on_ray = capsys.readouterr().out
    assert inplace.run(monkeypatch, str(recipe), tmp_path / "here", seeds=1) == 0
    here = capsys.readouterr().out
    assert rows(on_ray) == rows(here) != []
    names = [{p.name for p in (tmp_path / run / "stages").iterdir() if p.is_dir()} for run in ("ray", "here")]
    assert names[0] == names[1]


def test_a_stage_that_no_machine_has_room_for_is_refused(cluster: Cluster, tmp_path: Path) -> None:

    (tmp_path / "small.yaml").write_text(SMALL)
    job = next(iter(expand(load_recipe(str(tmp_path / "small.yaml")), tmp_path).jobs.values()))
    with pytest.raises(UserError, match="asks for 4 GPUs and the cluster has 0"):
        RayExecutor().submit(replace(job, resources=Resources(gpus=4)))
