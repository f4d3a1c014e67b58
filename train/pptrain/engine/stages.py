"""What `pptrain run` does: one stage as asked for, or the stages that follow from what ppgen left, here or on Ray."""

from __future__ import annotations

from typing import Any

from pptrain.config import default_out, default_stages, load_config
from pptrain.engine.ray_train import train_on_ray
from pptrain.engine.result import Result
from pptrain.engine.run import train


def run_stages(
    overrides: dict[str, Any], *, file: str | None, preset: str | None, ray_workers: int, address: str
) -> None:
    """Train, and print what every stage came to.

    Args:
        overrides: dotted setting -> value; without a target, shards or a `file` there are default stages.
        file: YAML file of settings.
        preset: named settings.
        ray_workers: processes of the Ray cluster at `address`; 0 trains here.

    Raises:
        UserError: anything the user can mend.
    """
    if file is None and not overrides.get("data.shards") and not overrides.get("data.target"):
        stages, notes = default_stages(overrides, preset)
        print("\n".join(notes))
    else:
        config = load_config(file, overrides, preset=preset)
        stages = [config if config.out else default_out(config)]
    for stage in stages:
        _report(train_on_ray(stage, ray_workers, address=address) if ray_workers else train(stage))


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
