"""Compares our sampling with the published code in one run: `python benchmarks/generators.py --size small|full`.

The weights are random, so nothing is downloaded; the time of a network does not depend on its weights. `small` is for
CPUs; `full` has the genuine DiT-XL/2-256 with its autoencoder, BigGAN-deep-256 and the ImageNet-64 consistency UNet, for one
GPU. Each side runs in its own process with the same weights in the same number type. The two take turns and the best round
counts. On one CPU thread the figure is processor time, which other jobs on the machine do not lengthen. The ceiling, the most
images a second that this machine could make, is the measured rate of matrix products divided by the arithmetic of an image.

Rows "equal" give both sides the same solver, steps and guidance; "interval" changes one thing, guiding only the noise levels
of our default interval, which makes other images; "defaults" uses the default options of each side.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import generator_models as models
import torch

Images = Callable[[], Any]


@dataclass(frozen=True)
class Setting:
    """The settings that both processes get; picklable."""

    size: str
    device: str
    dtype: str
    batch: int
    threads: int
    folder: str
    compile: str = "none"  # of ours; the published code cannot compile

    @property
    def number_type(self) -> torch.dtype:
        return getattr(torch, self.dtype)


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        model: `dit`, `consistency` or `biggan`.
        stock: arguments of the published pipeline.
        ours: sampling options; empty for the defaults.
    """

    name: str
    model: str
    stock: dict[str, Any] = field(default_factory=dict)
    ours: dict[str, Any] = field(default_factory=dict)


def cases(steps: int) -> list[Case]:
    """The rows."""
    equal = {"num_inference_steps": steps, "guidance_scale": 4.0}
    ddim = {"solver": "ddim", "steps": steps, "guidance": 4.0}
    return [
        Case(f"DiT equal: DDIM {steps}, guidance 4", "dit", equal, {**ddim, "guidance_interval": None}),
        Case(f"DiT interval: DDIM {steps}, guidance 4", "dit", equal, ddim),
        Case("DiT defaults: 50 steps / 20 steps", "dit"),
        Case("consistency, 1 step", "consistency"),
        Case("BigGAN-deep", "biggan"),
    ]


def write_models(setting: Setting, wanted: set[str]) -> None:
    """Save the random models that both processes load."""
    save = {"dit": models.save_dit, "consistency": models.save_consistency, "biggan": models.save_biggan}
    for model in wanted:
        folder = Path(setting.folder, model)
        folder.mkdir()
        save[model](folder, models.config(model, setting.size))


def labels(setting: Setting) -> list[int]:
    return [(7 * i) % 1000 for i in range(setting.batch)]


def streams(setting: Setting) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(setting.batch)]


@cache
def stock_pipeline(model: str, setting: Setting) -> Any:
    """The published code around the weights."""
    folder = Path(setting.folder, model)
    if model == "biggan":
        network = models.build_biggan(models.config(model, setting.size))
        network.load_state_dict(torch.load(folder / "pytorch_model.bin", weights_only=True))
        return network.to(setting.device, setting.number_type)
    import diffusers

    kind = {"dit": diffusers.DiTPipeline, "consistency": diffusers.ConsistencyModelPipeline}[model]
    pipe = kind.from_pretrained(folder, dtype=setting.number_type).to(setting.device)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def stock_images(case: Case, setting: Setting) -> Images:
    """A function that makes a batch of images on the host with the published code."""
    pipe = stock_pipeline(case.model, setting)
    if case.model == "dit":
        return lambda: pipe(labels(setting), generator=streams(setting), **case.stock)
    if case.model == "consistency":
        # This pipeline cannot convert half-precision arrays to images, so it returns tensors.
        return lambda: pipe(
            setting.batch, class_labels=labels(setting), generator=streams(setting), output_type="pt"
        ).images.cpu()

    def biggan() -> torch.Tensor:
        with torch.no_grad():
            noise = torch.randn(setting.batch, pipe.config.z_dim).to(setting.device, setting.number_type)
            return pipe(noise, torch.eye(1000)[labels(setting)].to(noise), 1.0).float().cpu()

    return biggan


@cache
def our_generator(model: str, options: str, setting: Setting) -> Any:
    from ppgen.generators import load_generator

    return load_generator(
        str(Path(setting.folder, model)),
        device=setting.device,
        dtype=setting.dtype,
        sampling={**json.loads(options), "compile": setting.compile},
    )


def our_images(case: Case, setting: Setting) -> Images:
    """A function that makes a batch of images on the host with our code."""
    generator = our_generator(case.model, json.dumps(case.ours), setting)
    condition, seeds = torch.eye(1000)[labels(setting)], torch.arange(setting.batch)
    return lambda: generator.sample(condition, seeds).cpu()


def timed(side: str, case: Case, setting: Setting) -> tuple[float, float, int]:
    """(seconds for a batch, peak GB, evaluations for an image); runs in the process of its side. Only ours counts evaluations."""
    torch.set_num_threads(setting.threads)
    run = (stock_images if side == "stock" else our_images)(case, setting)
    if setting.device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    elapsed = seconds(run, setting.device)
    count = 1
    if side == "ours" and case.model == "dit":
        count = our_generator(case.model, json.dumps(case.ours), setting).evaluations()
    return elapsed, memory(setting.device), count


def seconds(run: Images, device: str) -> float:
    """Time of one call: processor time on a CPU with one thread, else wall time."""
    clock = time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    if device != "cpu":
        torch.cuda.synchronize()
    start = clock()
    run()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - start


def memory(device: str) -> float:
    """Peak GB: of the GPU since the last reset, of the process on a CPU."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def matrix_rate(setting: Setting) -> float:
    """FLOP a second of a large matrix product, with the faster of the two CPU libraries."""
    from ppgen.generators.parts.transformer import InferenceLinear

    torch.set_num_threads(setting.threads)
    size = 1024 if setting.device == "cpu" else 8192
    a, b = (torch.randn(size, size, device=setting.device).to(setting.number_type) for _ in range(2))
    packed = InferenceLinear(b, None)
    with torch.inference_mode():
        best = min(
            seconds(run, setting.device) for _ in range(10) for run in (lambda: a @ b, lambda: packed(a))
        )
    return 2 * size**3 / best


def encoding_rate(resolution: int) -> float:
    """JPEG images encoded a second on one thread."""
    from ppgen.plan.build import choose_encoding
    from ppgen.shards.pack import make_encoder

    encode = make_encoder(choose_encoding("jpg", resolution))
    smooth = torch.nn.functional.interpolate(torch.rand(32, 3, 16, 16), size=resolution, mode="bicubic")
    images = (smooth.clamp(0, 1) * 255).to(torch.uint8).numpy()
    start = time.perf_counter()
    for image in images:
        encode(image)
    return len(images) / (time.perf_counter() - start)


def row(case: Case, setting: Setting, rate: float, rounds: int, pools: dict[str, ProcessPoolExecutor]) -> str:
    """Measure a case and format it."""
    results: dict[str, list[tuple[float, float, int]]] = {"stock": [], "ours": []}
    for _ in range(rounds):
        for side, pool in pools.items():
            results[side].append(pool.submit(timed, side, case, setting).result())
    rates = {side: setting.batch / min(r[0] for r in found) for side, found in results.items()}
    peak = {side: max(r[1] for r in found) for side, found in results.items()}
    steps = case.stock.get("num_inference_steps", 50)
    counts = {"stock": 2 * steps if case.model == "dit" else 1, "ours": results["ours"][0][2]}
    network, decoder = models.arithmetic(case.model, setting.size)
    flops = {side: counts[side] * network + decoder for side in counts}
    share = {side: rates[side] * flops[side] / rate for side in counts}

    def pair(values: dict[str, Any], form: str) -> str:
        return f"{values['stock']:{form}} / {values['ours']:{form}}"

    return (
        f"| {case.name} | {pair(counts, 'd')} | {flops['stock'] / 1e9:.1f} / {flops['ours'] / 1e9:.1f} | "
        f"{rate / flops['ours']:.2f} | {pair(rates, '.3f')} | {rates['ours'] / rates['stock']:.2f} | {pair(share, '.0%')} | "
        f"{pair(peak, '.1f')} |"
    )


def parse() -> tuple[argparse.Namespace, Setting]:
    parser = argparse.ArgumentParser(description="Our sampling beside the published code.")
    parser.add_argument("--size", choices=("small", "full"), default="small")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default=None, help="float32 or bfloat16 [default: bfloat16 on a GPU]")
    parser.add_argument("--only", default="dit,consistency,biggan")
    parser.add_argument("--batch", type=int, default=None)
    parser.add_argument("--steps", type=int, default=None, help="of the rows with equal steps")
    parser.add_argument("--rounds", type=int, default=3, help="the best of these counts")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", default=None, help="of ours [default: default on a GPU, none on a CPU]")
    parser.add_argument("--costs", action="store_true", help="print parameters and arithmetic only")
    args = parser.parse_args()
    small = args.size == "small"
    dtype = args.dtype or ("float32" if args.device == "cpu" else "bfloat16")
    batch = args.batch or (4 if small else 64)
    args.steps = args.steps or (8 if small else 20)
    folder, mode = (
        tempfile.mkdtemp(prefix="generators-"),
        args.compile or ("none" if args.device == "cpu" else "default"),
    )
    return args, Setting(args.size, args.device, dtype, batch, args.threads, folder, mode)


def main() -> None:
    args, setting = parse()
    if args.costs:
        models.print_costs()
        return
    wanted = set(args.only.split(","))
    write_models(setting, wanted)
    rate = matrix_rate(setting)
    where = f"{args.threads} CPU thread(s)" if setting.device == "cpu" else torch.cuda.get_device_name()
    print(
        f"{args.size}, {where}, {setting.dtype}, batch {setting.batch}, matrix products at {rate / 1e12:.3f} TFLOP/s"
    )
    print("A cell with two numbers is the published code / ours; the ceiling is ours.\n")
    print(
        "| case | evaluations | GFLOP an image | ceiling, images/s | images/s | ratio | of ceiling | peak GB |"
    )
    print("|---|---|---|---|---|---|---|---|", flush=True)
    spawn = multiprocessing.get_context("spawn")
    pools = {side: ProcessPoolExecutor(1, mp_context=spawn) for side in ("stock", "ours")}
    for case in cases(args.steps):
        if case.model in wanted:
            print(row(case, setting, rate, args.rounds, pools), flush=True)
    for pool in pools.values():
        pool.shutdown()
    side = 128 if args.size == "small" else 256
    print(f"\nJPEG encoding at {side} pixels: {encoding_rate(side):.0f} images/s a thread")


if __name__ == "__main__":
    main()
