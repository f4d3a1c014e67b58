"""`pptrain run`: the stage that the user described, or the stages that follow from the directories under runs/."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ppcore.classifiers import ClassifierSpec
from ppcore.console import printable
from ppcore.errors import UserError
from ppcore.trust import NOBODY, Trust
from pptrain.config import TrainConfig, identity, load_config, method_name
from pptrain.engine.directories import RUNS, FoundPseudo, find_pseudo, newest, same_source_classes
from pptrain.engine.inputs import open_inputs
from pptrain.engine.prepare import prepare_run
from pptrain.engine.process_group import ProcessGroup
from pptrain.engine.resolve import resolve_config
from pptrain.engine.result import Result, find_result, has_result, read_result
from pptrain.engine.run import train
from pptrain.methods import METHODS, SemiSupervised
from pptrain.methods.supervised import Supervised


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
            # With this flag Ray does not make its workers search the driver's working directory first, where a types.py may be.
            job = ray.job_config.JobConfig(_client_job=True)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, job_config=job)
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


# Settings that name what a run learns from, beside the target.
_SOURCES = ("data.shards", "data.unlabeled", "model.init")
# Settings that make sense for one of two stages only.
_OF_ONE_STAGE = ("out", "data.unlabeled", "data.labels_per_class")
# Settings that pre-training takes from a command that names a target: those of the network and of the machine.
_OF_EVERY_STAGE = ("seed", "model.arch", "data.resolution", "data.channels", "data.workers", "loop.")

Settings = dict[str, Any]


def run_stages(
    overrides: dict[str, Any],
    *,
    file: str | None,
    preset: str | None,
    ray_workers: int,
    address: str,
    trust: Trust,
) -> None:
    """Train one or two stages and print their results.

    Args:
        overrides: dotted setting -> value. If they name no data but a target, and there is no `file`, the directories under runs/
            are used.
        file: YAML file of settings.
        preset: named settings.
        ray_workers: processes on the Ray cluster at `address`; 0 trains here.
        trust: which code models and `file` may name, beside the architecture in `overrides`.

    Raises:
        UserError: a mistake in the settings or the data.
    """
    # Without a method, a teacher is that of the pseudo samples that are found.
    named = (*_SOURCES, "model.teacher") if overrides.get("method.name") else _SOURCES
    alone = not any(name in overrides for name in named)
    if file is None and not overrides.get("data.shards") and (alone or not overrides.get("data.target")):
        stages, notes = default_stages(overrides, preset)
        for note in notes:
            print(printable(note))
        if len(stages) > 1:
            _check_ahead(stages[-1], trust)
    else:
        config = load_config(file, overrides, preset=preset)
        arch = config.model.arch
        if ":" in arch and arch != overrides.get("model.arch") and not trust.allows(arch):
            raise UserError(
                f"{file} names code as its architecture ({arch!r}), which runs only if you ask for it; read that code, then repeat "
                f"the command with --arch {arch}"
            )
        stages = [config if config.out else default_out(config)]
    for stage in stages:
        if ray_workers:
            _report(train_on_ray(stage, ray_workers, address=address, trust=trust))
        else:
            _report(train(stage, trust=trust))
    _say_next(stages[-1])


def _check_ahead(stage: TrainConfig, trust: Trust) -> None:
    """Report mistakes of the last stage now, and not after an hour of pre-training. Its initial weights do not exist yet."""
    stage = replace(stage, model=replace(stage.model, init=""))
    group = ProcessGroup(stage.loop.device)
    try:
        resolve_config(stage, open_inputs(stage, trust), group)
    finally:
        group.close()


def _report(result: Result) -> None:
    test = result.details.get("test")
    accuracy = ""
    if test is not None:
        low, high = test["interval95"]
        accuracy = (
            f"test accuracy {test['accuracy']:.2%} ({low:.2%} to {high:.2%}, {test['images']} images), "
        )
    if not result.fresh:
        print(f"{result.out} is finished already, with these settings")
    print(f"{accuracy}{result.steps} steps in {result.seconds:.0f} s -> {result.out}")


def _say_next(config: TrainConfig) -> None:
    """Print the next command to stderr."""
    described = Path(config.out, "model", "config.json")
    arch = ClassifierSpec.read(described).arch if described.is_file() else config.model.arch
    if config.data.target:
        command = ["pptrain", "export", config.out, "--target", config.data.target]
        command += ["--trust-code"] if ":" in arch else []
    else:
        command = ["pptrain", "run", "--target", "TARGET", "--init", config.out]
        command += ["--arch", arch] if ":" in arch else []
    print(f"next: {printable(shlex.join(command))}", file=sys.stderr)


# ---- the stages of a command that does not name all its data


def default_out(config: TrainConfig) -> TrainConfig:
    """`config` with a run directory under runs/: its name has the data, the method and a hash of the settings that change the result."""
    digest = hashlib.sha256(json.dumps(identity(config), sort_keys=True).encode()).hexdigest()[:8]
    source = config.data.target or config.data.shards[0]
    name = Path(source.rstrip("/")).name.split(".")[0].replace("=", "-")
    kind = method_name(config) if config.data.target else "pretrain"
    return replace(config, out=f"{RUNS}/train-{name}-{kind}-{digest}")


def default_stages(overrides: Settings, preset: str | None) -> tuple[list[TrainConfig], list[str]]:
    """Pre-training on the newest synth directory, then fine-tuning on the target with the pseudo directory made for it.

    The target is the one in `overrides`, else that of the newest pseudo directory.

    Returns:
        One or both stages, and lines for the user that say what was chosen and how to choose otherwise.

    Raises:
        UserError: nothing to train on, or a setting that makes sense for one stage only while no target is given.
    """
    method = str(overrides.get("method.name", ""))
    if overrides.get("data.target"):
        return _stages_of_target(overrides, preset, method)
    synth, pseudo = newest("synth"), next(iter(find_pseudo()), None)
    if synth is None and pseudo is None:
        raise UserError(
            f"nothing to train on: no --target, no --shards, and no finished {RUNS}/synth-* or {RUNS}/pseudo-* directory; "
            f"run ppgen synth and ppgen pseudo first"
        )
    for name in _OF_ONE_STAGE if pseudo is not None else (*_OF_ONE_STAGE, "method.name"):
        if name in overrides:
            raise UserError(
                f"{name} was given without a target, but it applies to one of two stages only; give --target or --shards"
            )
    of_target = ("method.", "model.teacher")
    shared = {name: value for name, value in overrides.items() if not name.startswith(of_target)}
    stages = [] if synth is None else [_pre_training(synth, shared, preset)]
    found = [str(synth)] if synth is not None else []
    if pseudo is not None:
        pseudo.require_open_target()
        found.append(f"{pseudo.path}, made for {pseudo.target}")
        settings = {
            "data.target": pseudo.target,
            "data.labels_per_class": pseudo.labels_per_class or 0,
            **(_unlabeled_set(pseudo.path, synth, method) if _takes_unlabeled(method) else {}),
        }
        stages.append(_fine_tuning({**settings, **overrides}, preset, stages))
    return stages, [f"found {', '.join(found)}: the newest under {RUNS}/ (another target: --target)"]


def _stages_of_target(
    overrides: Settings, preset: str | None, method: str
) -> tuple[list[TrainConfig], list[str]]:
    """The stages of a command that names its target, and lines for the user on what was found for it."""
    target = overrides["data.target"]
    synth, pseudo = newest("synth"), find_pseudo()
    stages, notes = [], []
    if synth is not None:
        shared = {name: value for name, value in overrides.items() if name.startswith(_OF_EVERY_STAGE)}
        stages.append(_pre_training(synth, shared, preset))
        notes.append(
            f"pre-training on {synth}, the newest under {RUNS}/ (other weights: --init RUN, none: --init none)"
        )
    unlabeled: Settings = {}
    if _takes_unlabeled(method):
        labels = overrides.get("data.labels_per_class")
        unlabeled, lines = _unlabeled(target, labels, synth, pseudo, method)
        notes += lines
    if not notes:
        notes.append(
            f"no other images found under {RUNS}/: training from scratch. ppgen synth makes images for pre-training, "
            f"ppgen pseudo --target {target} makes unlabelled images like the target's"
        )
    return [*stages, _fine_tuning({**unlabeled, **overrides}, preset, stages)], notes


def _unlabeled(
    target: str, labels: int | None, synth: Path | None, pseudo: Sequence[FoundPseudo], method: str
) -> tuple[Settings, list[str]]:
    """(settings of the unlabelled set, lines for the user).

    Of the pseudo directories made for the target, one with `labels` labels per class is preferred, then the newest.
    """
    mine = [found for found in pseudo if found.is_for(target)]
    others = [f"{found.path} ({found.target})" for found in pseudo if found not in mine]
    lines = [f"not used, made for other targets: {', '.join(others)}"] if others else []
    if mine:
        chosen = next((found for found in mine if labels and found.labels_per_class == labels), mine[0])
        settings = _unlabeled_set(chosen.path, synth, method)
        beside = f" and, half of every batch, {synth}" if len(settings["data.unlabeled"]) > 1 else ""
        lines.insert(
            0, f"unlabelled images: {chosen.path}, made for this target{beside} (others: --unlabeled DIR)"
        )
        few = chosen.labels_per_class
        if few and labels is None:
            lines.append(
                f"{chosen.path} was made from {few} labelled images per class, but training uses all labelled images "
                f"(--labels-per-class {few} uses the same ones)"
            )
        return settings, lines
    command = f"ppgen pseudo --target {target}"
    if METHODS[method or "condition"].needs_conditions and synth is not None:
        lines.insert(0, f"unlabelled images: {synth}, with their classes; {command} makes better ones")
        return {"data.unlabeled": [str(synth)]}, lines
    if method:
        raise UserError(
            f"method {method} needs unlabelled images, and no {RUNS}/pseudo-* directory was made for {target}; run {command}, or "
            f"give --unlabeled DIR"
        )
    return {}, lines


def _unlabeled_set(pseudo: Path, synth: Path | None, method: str) -> Settings:
    """Settings of the unlabelled set: the pseudo directory, and for the default method also the synth directory.

    The images of pre-training, half of every batch, keep the network from forgetting source classes (docs/results.md has the gain).
    """
    if method or synth is None or not same_source_classes(pseudo, synth):
        return {"data.unlabeled": [str(pseudo)]}
    return {"data.unlabeled": [str(pseudo), str(synth)], "data.weights": [0.5, 0.5]}


def _takes_unlabeled(method: str) -> bool:
    """Whether `method`, by default condition prediction, takes unlabelled images; an unknown one is refused by `make_method`."""
    return issubclass(METHODS.get(method or "condition", Supervised), SemiSupervised)


def _pre_training(synth: Path, settings: Settings, preset: str | None) -> TrainConfig:
    return default_out(load_config(None, {**settings, "data.shards": [str(synth)]}, preset=preset))


def _fine_tuning(settings: Settings, preset: str | None, before: list[TrainConfig]) -> TrainConfig:
    """The last stage, which starts from the weights of the stage in `before`, if there is one."""
    start = {"model.init": before[0].out} if before else {}
    config = load_config(None, {**settings, **start}, preset=preset)
    return config if config.out else default_out(config)
