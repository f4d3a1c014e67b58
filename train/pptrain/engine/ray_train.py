"""The same training run on a Ray cluster, through Ray Train: one process a worker, resumed after a lost node."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from ppcore.errors import UserError
from ppcore.trust import NOBODY, Trust
from pptrain.config import TrainConfig
from pptrain.engine.choice import with_stored
from pptrain.engine.process_group import ProcessGroup
from pptrain.engine.result import Result, find_result, has_result, read_result
from pptrain.engine.run import train
from pptrain.engine.task import open_task


def train_on_ray(
    config: TrainConfig, workers: int, *, address: str = "local", retries: int = 3, trust: Trust = NOBODY
) -> Result:
    """Run `config` on `workers` Ray processes.

    The run directory must be on a file system that all nodes share; a worker that dies restarts all of them from the last resume point.

    Args:
        address: of a running cluster; `local` starts one on this machine for the time of the run.
        retries: how many losses of a worker are made good.
        trust: see :func:`pptrain.engine.run.train`; the workers run what was found in order here.

    Raises:
        UserError: Ray is not installed, or the workers refused the configuration.
    """
    try:
        import ray  # optional: only for --ray
        from ray.train import FailureConfig, RunConfig, ScalingConfig  # optional: only for --ray
        from ray.train.torch import TorchTrainer  # optional: only for --ray
    except ImportError as error:
        raise UserError(
            "training on Ray needs ray[train]; pip install 'pptransfer[generate]' 'ray[train]'"
        ) from error

    config = replace(config, data=replace(config.data, groups=config.data.groups or workers))
    # Mistakes are refused here, in one sentence, and not by a worker.
    task = open_task(with_stored(config), ProcessGroup("cpu"), trust)
    done = find_result(Path(config.out), task.config)
    if done is not None:
        return done
    out = Path(config.out).resolve()
    if not ray.is_initialized():
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(
                f"cannot use Ray at {address!r} ({' '.join(str(error).split())}); start it with ray start --head, or leave "
                f"--address out to work on this machine"
            ) from error
    has_gpu = bool(ray.cluster_resources().get("GPU"))
    trainer = TorchTrainer(
        _work,
        train_loop_config={"config": replace(config, out=str(out)), "folder": os.getcwd()},
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=has_gpu and config.loop.device != "cpu"),
        run_config=RunConfig(
            name=f".ray-{out.name}",
            storage_path=str(out.parent),
            failure_config=FailureConfig(max_failures=retries),
        ),
    )
    trainer.fit()
    if not has_result(out):
        raise UserError(f"the workers left no result in {out}; all nodes must share that file system")
    return replace(read_result(out), fresh=True)


def _work(settings: dict[str, Any]) -> None:
    """What every Ray worker does; the process group is Ray's."""
    os.chdir(settings["folder"])  # relative paths mean the same everywhere
    train(settings["config"], quiet=True, trust=Trust(code=True))
