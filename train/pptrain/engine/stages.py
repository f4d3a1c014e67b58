"""What `pptrain run` does: one stage as asked for, or the stages that follow from what ppgen left, here or on Ray."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from ppcore.console import printable
from ppcore.errors import UserError
from ppcore.trust import Trust
from pptrain.config import TrainConfig, Wanted, default_out, default_stages, load_config
from pptrain.engine.inputs import open_inputs
from pptrain.engine.process_group import ProcessGroup
from pptrain.engine.ray_train import train_on_ray
from pptrain.engine.resolve import resolve_config
from pptrain.engine.result import Result
from pptrain.engine.run import train
from pptrain.methods import METHODS, SemiSupervised, make_method

_SOURCES = (
    "data.shards",
    "data.unlabeled",
    "model.init",
    "model.teacher",
)  # what a run learns from, beside the target


def run_stages(
    overrides: dict[str, Any],
    *,
    file: str | None,
    preset: str | None,
    ray_workers: int,
    address: str,
    trust: Trust,
) -> None:
    """Train, and print what every stage came to.

    Args:
        overrides: dotted setting -> value; where they name nothing to learn from but a target, and there is no `file`, what is
            under runs/ is used.
        file: YAML file of settings.
        preset: named settings.
        trust: which code models and `file` may name, beside the architecture in `overrides`.
        ray_workers: processes of the Ray cluster at `address`; 0 trains here.

    Raises:
        UserError: anything the user can mend.
    """
    alone = not any(name in overrides for name in _SOURCES)
    if file is None and not overrides.get("data.shards") and (alone or not overrides.get("data.target")):
        stages, notes = default_stages(overrides, preset, _wanted(overrides))
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


def _wanted(overrides: dict[str, Any]) -> Wanted:
    """What the method asked for learns from; an unknown one is refused where it is made."""
    name = str(overrides.get("method.name", ""))
    method = METHODS.get(name or "condition")
    semi_supervised = method is not None and issubclass(method, SemiSupervised)
    return Wanted(name, semi_supervised, method is not None and method.needs_conditions)


def _check_ahead(stage: TrainConfig, trust: Trust) -> None:
    """Refuse now what would be refused after an hour of pre-training: the last stage's mistakes, but for its initial weights."""
    stage = replace(stage, model=replace(stage.model, init=""))
    group = ProcessGroup(stage.loop.device)
    try:
        config, _ = resolve_config(stage, open_inputs(stage, trust), group)
    finally:
        group.close()
    make_method(config.method.name, config.method.options)


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
    """What can be done with a finished run."""
    if config.data.target:
        print(f"next: pptrain export {config.out} --target {config.data.target}", file=sys.stderr)
    else:
        print(f"next: pptrain run --target TARGET --init {config.out}", file=sys.stderr)
