"""A training stage on a Ray cluster, through Ray Train: one process per worker, restarted from the last checkpoint if a node dies."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from ppcore.errors import UserError
from ppcore.trust import NOBODY, Trust
from pptrain.config import TrainConfig
from pptrain.engine.prepare import prepare_run
from pptrain.engine.process_group import ProcessGroup
from pptrain.engine.result import Result, find_result, has_result, read_result
from pptrain.engine.run import train


def train_on_ray(
    config: TrainConfig, workers: int, *, address: str = "local", retries: int = 3, trust: Trust = NOBODY
) -> Result:
    """Train one stage on `workers` Ray processes.

    All nodes must share the file system of the run directory. If a worker dies, all workers restart from the last checkpoint.

    Args:
        address: host:port of a running cluster; `local` starts one on this machine for this run.
        retries: how often the workers are restarted before the run fails.
        trust: see :func:`pptrain.engine.run.train`; the workers run the code that was allowed here.

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
    # Mistakes are reported here and not by a worker, whose traceback nobody could read.
    prepared = prepare_run(config, ProcessGroup("cpu"), trust)
    done = find_result(Path(config.out), prepared.config)
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
        raise UserError(
            f"the workers wrote no result to {out}; put --out on a file system that all nodes share"
        )
    return replace(read_result(out), fresh=True)


def _work(settings: dict[str, Any]) -> None:
    """Train in one Ray worker; Ray has formed the process group."""
    os.chdir(settings["folder"])  # so that relative paths mean the same as in the driver
    train(settings["config"], quiet=True, trust=Trust(code=True))
