"""What a commit record says of the machine, read from what the driver says of itself."""

from __future__ import annotations

from dataclasses import replace

import torch

from ppcore.platforms import Platform, parse_driver, this_platform

H100 = Platform("2.11.0+cu128", "AVX512", "default", "NVIDIA H100 80GB HBM3", "570.86.15", "12.8", "91002")


def test_a_cpu_has_instructions_and_threads_and_no_gpu() -> None:
    found = this_platform(torch.device("cpu"))
    assert (found.torch, found.compile, found.gpu, found.cuda) == (torch.__version__, "none", None, None)
    assert found.instructions == torch.backends.cpu.get_cpu_capability()
    assert found.threads == torch.get_num_threads()
    assert found.differences(this_platform(torch.device("cpu"))) == []


def test_differences_are_named_with_both_values() -> None:
    other = replace(H100, gpu="NVIDIA A100-SXM4-80GB", driver=None)
    assert H100.differences(other) == [
        "gpu NVIDIA H100 80GB HBM3, here NVIDIA A100-SXM4-80GB",
        "driver 570.86.15, here none",
    ]


def test_the_driver_s_version_is_read_from_either_of_its_texts() -> None:
    closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\nGCC"
    opened = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (dvs)\n"
    assert parse_driver(closed) == "535.183.01"
    assert parse_driver(opened) == "570.86.15"
    assert parse_driver("nothing of the kind") is None
