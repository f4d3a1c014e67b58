"""How long a training step takes, measured on a few steps before a run; nothing is written."""

from __future__ import annotations

import time
from dataclasses import replace

from pptrain.config import TrainConfig
from pptrain.config.settings import MethodConfig
from pptrain.engine.prepare import prepare_run
from pptrain.engine.process_group import ProcessGroup
from pptrain.engine.state import make_state
from pptrain.engine.step import StepRunner, open_batches
from pptrain.evaluation import LossAverages

_STEPS = 3  # the first one is not measured
_BATCH, _PIXELS = 50, 16 * 224 * 224  # most images of a step, and most pixels of their views


def seconds_per_image(config: TrainConfig) -> float:
    """Seconds of a training step for each image of its batch, on this machine and with torch's number of threads.

    The steps are supervised, from random weights, on one image of each class of the target, in batches of at most 16 images of 224
    pixels: an unlabelled image costs about as much as a labelled one, and a large batch about as much as several small ones.

    Args:
        config: names the target and the network, its resolution and views.

    Raises:
        UserError: the target cannot be opened, or the network does not take its images.
    """
    side = config.data.resolution or 224
    batch = min(config.optim.batch_size or _BATCH, max(2, _PIXELS // side**2))
    config = replace(
        config,
        out="",
        data=replace(
            config.data,
            shards=[],
            unlabeled=[],
            weights=[],
            labels_per_class=1,
            val_fraction=0.0,
            monitor=0,
            groups=0,
        ),
        model=replace(config.model, init="", teacher=""),
        method=MethodConfig("supervised"),
        optim=replace(config.optim, batch_size=batch, accumulate=1, steps=_STEPS, epochs=0.0),
    )
    group = ProcessGroup(config.loop.device)
    try:
        prepared = prepare_run(config, group)
        state = make_state(prepared, group.device)
        averages = LossAverages(group.device)
        runner = StepRunner(prepared, state, group, averages)
        with open_batches(prepared, 0) as batches:
            runner.run(batches)
            averages.take(1)  # waits for the device
            start = time.monotonic()
            for _ in range(1, _STEPS):
                runner.run(batches)
            averages.take(_STEPS - 1)
    finally:
        group.close()
    return (time.monotonic() - start) / ((_STEPS - 1) * batch)
