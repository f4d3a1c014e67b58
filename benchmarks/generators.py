"""Compares our sampling with the published code in one run: `python benchmarks/generators.py --size small|full`.

The weights are random, so nothing is downloaded; the time of a network does not depend on its weights. `small` is for
CPUs; `full` has the genuine DiT-XL/2-256 and SiT-XL/2-256 with their autoencoder, VAR-d16 with its own, BigGAN-deep-256 and the
ImageNet-64 consistency UNet, for one GPU. The published code is diffusers' pipelines and pytorch-pretrained-biggan. For SiT and VAR it is
written as plain loops in `tests/generate/plain_loops.py`, which are tested against records of the published code.

Each side runs in its own process with the same weights in the same number type. The two take turns and the best round
counts. On one CPU thread the figure is processor time, which other jobs on the machine do not lengthen. The ceiling, the most
images a second that this machine could make, is the measured rate of matrix products divided by the arithmetic of an image.

Rows "equal" give both sides the same solver, steps, guidance and noise, and the largest difference of their images is printed in grey
levels of 255, except where tokens are drawn at random. "Interval" changes one thing, guiding only the noise levels of our default
interval, which makes other images. "Defaults" uses the default options of each side.

`--floors` prints the arithmetic of the kits and the least seconds that an image takes at the matrix rate of this machine.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import generator_models as models
import numpy as np
import torch

sys.path.append(str(Path(__file__).parents[1] / "tests" / "generate"))  # the plain loops

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
        model: `dit`, `sit`, `var`, `consistency` or `biggan`.
        evaluations: of the published code, for an image.
        stock: arguments of the published code.
        ours: sampling options; empty for the defaults.
        equal: whether the images of both sides are compared.
    """

    name: str
    model: str
    evaluations: int
    stock: dict[str, Any] = field(default_factory=dict)
    ours: dict[str, Any] = field(default_factory=dict)
    equal: bool = True


def cases(steps: int) -> list[Case]:
    """The rows."""
    stock, plain = {"num_inference_steps": steps, "guidance_scale": 4.0}, {"steps": steps, "guidance": 4.0}
    ddim, euler = {"solver": "ddim", **plain}, {"solver": "flow_euler", **plain}
    always, looks = {"guidance_interval": None}, {"cfg": 4.0, "top_k": 900, "top_p": 0.95}
    greedy = {"cfg": 1.5, "top_k": 1}
    return [
        Case(f"DiT equal: DDIM {steps}, guidance 4", "dit", 2 * steps, stock, ddim | always),
        Case(f"DiT interval: DDIM {steps}, guidance 4", "dit", 2 * steps, stock, ddim, equal=False),
        Case("DiT defaults: 50 steps / 20 steps", "dit", 100, equal=False),
        Case(f"SiT equal: Euler {steps}, guidance 4", "sit", 2 * steps, plain, euler | always),
        Case(f"SiT interval: Euler {steps}, guidance 4", "sit", 2 * steps, plain, euler, equal=False),
        Case("VAR equal: guidance 1.5, likeliest tokens", "var", 2, greedy, greedy),
        # The rounding of a float32 logit moves a draw across the boundary of two tokens now and then.
        Case("VAR equal: guidance 1.5", "var", 2, {"cfg": 1.5}, equal=False),
        Case("VAR equal: guidance 4, top-k 900, top-p 0.95", "var", 2, looks, looks, equal=False),
        Case("consistency, 1 step", "consistency", 1),
        Case("BigGAN-deep", "biggan", 1),
    ]


def write_models(setting: Setting, wanted: set[str]) -> None:
    """Save the random models that both processes load."""
    save: dict[str, Callable[[Path, Any], Any]] = {
        "dit": models.save_dit,
        "sit": models.save_sit,
        "var": models.save_var,
        "consistency": models.save_consistency,
        "biggan": models.save_biggan,
    }
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

    if model in ("sit", "var"):
        names = ("sit",) if model == "sit" else ("var", "vae")
        states = [torch.load(folder / f"{name}.pt", weights_only=True) for name in names]
        place = setting.device, setting.number_type
        parts: list[Any] = [{name: x.to(*place) for name, x in state.items()} for state in states]
        if model == "sit":
            parts.append(
                diffusers.AutoencoderKL.from_pretrained(folder / "vae", dtype=setting.number_type).to(
                    setting.device
                )
            )
        return parts
    kind = {"dit": diffusers.DiTPipeline, "consistency": diffusers.ConsistencyModelPipeline}[model]
    pipe = kind.from_pretrained(folder, dtype=setting.number_type).to(setting.device)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def stock_images(case: Case, setting: Setting) -> Images:
    """A function that makes a batch of images on the host with the published code: PIL images, or floats in [-1, 1]."""
    from ppcore.seeds import PerSampleNoise
    from ppgen.generators.biggan import truncated_normal

    pipe = stock_pipeline(case.model, setting)
    if case.model == "dit":
        return lambda: pipe(labels(setting), generator=streams(setting), **case.stock)[0]
    if case.model == "consistency":
        # This pipeline cannot convert half-precision arrays to images, so it returns tensors in [0, 1].
        return lambda: (
            pipe(setting.batch, class_labels=labels(setting), generator=streams(setting), output_type="pt")[0]
            .cpu()
            .mul(2)
            .sub(1)
        )
    if case.model == "biggan":

        def biggan() -> torch.Tensor:
            with torch.no_grad():
                normal = PerSampleNoise(range(setting.batch)).randn((pipe.config.z_dim,))
                noise = truncated_normal(normal, 1.0).to(setting.device, setting.number_type)
                return pipe(noise, torch.eye(1000)[labels(setting)].to(noise), 1.0).float().cpu()

        return biggan
    import plain_loops

    size, classes = models.config(case.model, setting.size), torch.tensor(labels(setting))

    def loop() -> torch.Tensor:
        noise = PerSampleNoise(range(setting.batch))
        with torch.inference_mode():
            if case.model == "var":
                uniform, scales = noise.rand((680,)), models.PUBLISHED_SCALES[680]
                return plain_loops.var_images(*pipe, classes, uniform, scales=scales, **case.stock).cpu()
            state, vae = pipe
            start = noise.randn((4, size.side, size.side), device=setting.device)

            def decode(latents: torch.Tensor) -> torch.Tensor:
                return vae.decode(latents.to(vae.dtype) / vae.config.scaling_factor).sample.float()

            return plain_loops.sit_images(state, decode, classes, start, heads=size.heads, **case.stock).cpu()

    return loop


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


@dataclass(frozen=True)
class Made:
    """What one side made and took.

    Attributes:
        seconds: for a batch.
        peak: GB.
        evaluations: for an image.
        images: uint8 (B, C, H, W), where they are compared.
    """

    seconds: float
    peak: float
    evaluations: int
    images: torch.Tensor | None


def timed(side: str, case: Case, setting: Setting) -> Made:
    """One round; runs in the process of its side."""
    torch.set_num_threads(setting.threads)
    run = (stock_images if side == "stock" else our_images)(case, setting)
    if setting.device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    elapsed, images = seconds(run, setting.device)
    count = case.evaluations
    if side == "ours":
        generator = our_generator(case.model, json.dumps(case.ours), setting)
        count = generator.evaluations() if hasattr(generator, "evaluations") else count
    return Made(elapsed, memory(setting.device), count, grey_levels(images) if case.equal else None)


def grey_levels(images: Any) -> torch.Tensor:
    """uint8 (B, C, H, W) of PIL images, of floats in [-1, 1] or of uint8."""
    from ppgen.generators.parts.family import to_uint8

    if isinstance(images, torch.Tensor):
        return images if images.dtype == torch.uint8 else to_uint8(images)
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2)


def seconds(run: Images, device: str) -> tuple[float, Any]:
    """Time of one call, processor time on a CPU with one thread, else wall time; and what the call returned."""
    clock = time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    if device != "cpu":
        torch.cuda.synchronize()
    start = clock()
    result = run()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - start, result


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
            seconds(run, setting.device)[0] for _ in range(10) for run in (lambda: a @ b, lambda: packed(a))
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
    results: dict[str, list[Made]] = {"stock": [], "ours": []}
    for _ in range(rounds):
        for side, pool in pools.items():
            results[side].append(pool.submit(timed, side, case, setting).result())
    rates = {side: setting.batch / min(r.seconds for r in found) for side, found in results.items()}
    peak = {side: max(r.peak for r in found) for side, found in results.items()}
    counts = {side: found[0].evaluations for side, found in results.items()}
    network, decoder = models.arithmetic(case.model, setting.size)
    flops = {side: counts[side] * network + decoder for side in counts}
    share = {side: rates[side] * flops[side] / rate for side in counts}
    theirs, images = (found[0].images for found in results.values())
    difference = "-" if theirs is None or images is None else int((theirs.int() - images.int()).abs().max())

    def pair(values: dict[str, Any], form: str) -> str:
        return f"{values['stock']:{form}} / {values['ours']:{form}}"

    return (
        f"| {case.name} | {pair(counts, 'd')} | {flops['stock'] / 1e9:.1f} / {flops['ours'] / 1e9:.1f} | "
        f"{rate / flops['ours']:.2f} | {pair(rates, '.3f')} | {rates['ours'] / rates['stock']:.2f} | {pair(share, '.0%')} | "
        f"{pair(peak, '.1f')} | {difference} |"
    )


def print_floors(rate: float) -> None:
    """Table of the arithmetic of an image with the default options, and of the time it takes at a rate of FLOP/s."""
    from ppgen.sources.catalogue import COSTS

    print(f"matrix products at {rate / 1e12:.3f} TFLOP/s\n")
    print("| kit | evaluations | GFLOP each | GFLOP of decoding | GFLOP an image | floor, s an image |")
    print("|---|---|---|---|---|---|")
    for name, cost in COSTS.items():
        print(
            f"| `{name}` | {cost.evaluations} | {cost.evaluation} | {cost.decoding} | {cost.image:.1f} | "
            f"{cost.image * 1e9 / rate:.4g} |"
        )


def parse() -> tuple[argparse.Namespace, Setting]:
    parser = argparse.ArgumentParser(description="Our sampling beside the published code.")
    parser.add_argument("--size", choices=("small", "full"), default="small")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default=None, help="float32 or bfloat16 [default: bfloat16 on a GPU]")
    parser.add_argument("--only", default="dit,sit,var,consistency,biggan")
    parser.add_argument("--batch", type=int, default=None)
    parser.add_argument("--steps", type=int, default=None, help="of the rows with equal steps")
    parser.add_argument("--rounds", type=int, default=3, help="the best of these counts")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", default=None, help="of ours [default: default on a GPU, none on a CPU]")
    parser.add_argument("--costs", action="store_true", help="print parameters and arithmetic only")
    parser.add_argument("--floors", action="store_true", help="print the least time of an image here only")
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
    rate = matrix_rate(setting)
    if args.floors:
        print_floors(rate)
        return
    wanted = set(args.only.split(","))
    write_models(setting, wanted)
    where = f"{args.threads} CPU thread(s)" if setting.device == "cpu" else torch.cuda.get_device_name()
    print(
        f"{args.size}, {where}, {setting.dtype}, batch {setting.batch}, matrix products at {rate / 1e12:.3f} TFLOP/s"
    )
    print("A cell with two numbers is the published code / ours; the ceiling is ours.\n")
    print(
        "| case | evaluations | GFLOP an image | ceiling, images/s | images/s | ratio | of ceiling | peak GB | difference |"
    )
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
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
