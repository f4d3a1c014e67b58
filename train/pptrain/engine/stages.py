"""`pptrain run`: the stage that the user described, or the stages that follow from the directories under runs/."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from ppcore.console import printable
from ppcore.errors import UserError
from ppcore.trust import Trust
from pptrain.config import MethodNeeds, TrainConfig, default_out, default_stages, load_config
from pptrain.engine.inputs import open_inputs
from pptrain.engine.process_group import ProcessGroup
from pptrain.engine.ray_train import train_on_ray
from pptrain.engine.resolve import resolve_config
from pptrain.engine.result import Result
from pptrain.engine.run import train
from pptrain.methods import METHODS, SemiSupervised

# Settings that name what a run learns from, beside the target.
_SOURCES = ("data.shards", "data.unlabeled", "model.init", "model.teacher")


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
    alone = not any(name in overrides for name in _SOURCES)
    if file is None and not overrides.get("data.shards") and (alone or not overrides.get("data.target")):
        stages, notes = default_stages(overrides, preset, _method_needs(overrides))
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


def _method_needs(overrides: dict[str, Any]) -> MethodNeeds:
    """What the method in `overrides` learns from. An unknown method needs nothing here; :func:`make_method` refuses it."""
    name = str(overrides.get("method.name", ""))
    method = METHODS.get(name or "condition")
    semi_supervised = method is not None and issubclass(method, SemiSupervised)
    return MethodNeeds(name, semi_supervised, method is not None and method.needs_conditions)


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
    if config.data.target:
        print(f"next: pptrain export {config.out} --target {config.data.target}", file=sys.stderr)
    else:
        print(f"next: pptrain run --target TARGET --init {config.out}", file=sys.stderr)
