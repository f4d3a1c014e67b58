"""The plain loops, which benchmarks compare with, equal the records of the published code; and ours equals them at random draws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import parity
import plain_loops
import pytest
import torch
from tiny_models import one_hot

from ppcore.seeds import PerSampleNoise
from ppgen.generators import load_generator

SCALES = (1, 2, 3, 4)
LABELS, SEEDS = torch.tensor([3, 0, 9]), torch.tensor([5, 6, 7])


def test_the_loop_of_sit_equals_the_record_and_ours(tmp_path: Path) -> None:
    state, io = parity.draw(parity.facts("sit-tiny")["weights"]), parity.recorded("sit-tiny")
    settings = {"heads": 4, "steps": 8, "guidance": 1.5}
    end = plain_loops.sit_images(state, lambda x: x, io["euler_labels"], io["euler_start"], **settings)
    torch.testing.assert_close(end, io["euler_end"], rtol=0, atol=1e-4)

    sampling = {"solver": "flow_euler", "steps": 8, "guidance": 1.5, "guidance_interval": None}
    generator: Any = load_generator(str(parity.save_sit(tmp_path)), sampling=sampling)
    wanted = plain_loops.sit_images(
        state, generator._decoder, LABELS, PerSampleNoise(SEEDS).randn((4, 8, 8)), **settings
    )
    found = generator.sample_float(one_hot(LABELS.tolist(), 10), SEEDS)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["var-tiny", "var-tiny-shared"])
def test_the_loop_of_var_equals_the_record_and_ours(tmp_path: Path, name: str) -> None:
    known, io = parity.facts(name), parity.recorded(name)
    state, decoder = parity.draw(known["weights"]), parity.draw(known["decoder_weights"])
    count = len(io["labels"])
    greedy = plain_loops.var_images(
        state, decoder, io["labels"], torch.zeros(count, 30).double(), scales=SCALES, cfg=1.5, top_k=1
    )
    torch.testing.assert_close(greedy / 2 + 0.5, io["image"], rtol=0, atol=1e-4)

    folder, uniform = parity.save_var(tmp_path, name), PerSampleNoise(SEEDS).rand((30,))
    for truncation in ({}, {"top_k": 20, "top_p": 0.8}):
        wanted = plain_loops.var_images(state, decoder, LABELS, uniform, scales=SCALES, cfg=1.5, **truncation)
        generator: Any = load_generator(str(folder), sampling={"cfg": 1.5, **truncation})
        found = generator.sample_float(one_hot(LABELS.tolist(), 10), SEEDS)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)
