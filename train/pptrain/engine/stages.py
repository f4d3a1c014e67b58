"""What `pptrain run` does: one stage as asked for, or the stages that follow from what ppgen left, here or on Ray."""

from __future__ import annotations

from typing import Any

from ppcore.errors import UserError
from ppcore.trust import Trust
from pptrain.config import default_out, default_stages, load_config
from pptrain.engine.ray_train import train_on_ray
from pptrain.engine.result import Result
from pptrain.engine.run import train


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
        overrides: dotted setting -> value; without a target, shards or a `file` there are default stages.
        file: YAML file of settings.
        preset: named settings.
        trust: which code models and `file` may name, beside the architecture in `overrides`.
        ray_workers: processes of the Ray cluster at `address`; 0 trains here.

    Raises:
        UserError: anything the user can mend.
    """
    if file is None and not overrides.get("data.shards") and not overrides.get("data.target"):
        stages, notes = default_stages(overrides, preset)
        print("\n".join(notes))
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
