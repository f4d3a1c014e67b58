"""The networks of the paper and of today at their real shapes on a CPU, beside the published code: load time, memory, images.

    python benchmarks/real_shapes.py                 DiT-XL/2-256, BigGAN-deep-256, the ImageNet-64 consistency UNet: 12 minutes
    python benchmarks/real_shapes.py biggan          one of dit, biggan, consistency
    python benchmarks/real_shapes.py var sit         VAR-d16 with its 160-channel decoder, and SiT-XL/2 in 4 steps: 4 images each
    python benchmarks/real_shapes.py default         one image each of VAR-d16 and DiT-XL/2 at their default settings

The weights are random; their files have the names, the format and the size of the published ones (3.0 GB for the transformer of the
DiT). Each side loads them in a process of its own and makes one image of each of four classes from the same noise. Exit status 1 if a
pixel differs by more than one grey level, if the images are flat, or if a process needs 8 GiB or more.

`var`, `sit` and `default` run our side alone: equality with the published code is tested on small networks (tests/generate/generators).
They print the arithmetic beside the seconds; `default` fails if VAR takes more than a third of the seconds of DiT.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import generator_models as models
import torch

from ppgen.generators.sit import SiTOptions, make_schedule
from ppgen.sampling import Guidance

LABELS = [3, 207, 417, 999]
SEEDS = torch.tensor([11, 12, 13, 14])
STEPS = 4
MOST_GIB = 8.0


@dataclass(frozen=True)
class Made:
    """What one side made and took.

    Attributes:
        images: float32 (B, 3, R, R) in [0, 1].
        load, sampling, step: seconds; a step is one evaluation of the network for the whole batch.
        peak: GiB of the process.
    """

    images: torch.Tensor
    load: float
    sampling: float
    step: float
    peak: float


class Clock:
    """A function whose calls are timed."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.seconds, self.calls = function, 0.0, 0

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        start = time.perf_counter()
        output = self.function(*inputs, **named)
        self.seconds += time.perf_counter() - start
        self.calls += 1
        return output


def write(family: str, folder: str) -> None:
    """Write the files of a model with random weights."""
    out = Path(folder)
    if family == "dit":
        models.save_dit(out, models.DIT_XL_2_256, safe_serialization=False)
    elif family == "var":
        models.save_var(out)
    elif family == "sit":
        models.save_sit(out)
    elif family == "consistency":
        models.save_consistency(out, models.IMAGENET_64_UNET)
    else:
        models.save_biggan(out, models.BIGGAN_DEEP_256, warm_up=3)


def published(family: str, folder: str) -> Made:
    """The published code: diffusers' pipelines, and the network of pytorch-pretrained-biggan."""
    torch.set_num_threads(1)
    streams = [torch.Generator().manual_seed(int(seed)) for seed in SEEDS]
    start = time.perf_counter()
    if family == "biggan":
        network = models.build_biggan(models.BIGGAN_DEEP_256)
        network.load_state_dict(torch.load(Path(folder, "pytorch_model.bin"), weights_only=True))
    else:
        import diffusers

        kind = {"dit": diffusers.DiTPipeline, "consistency": diffusers.ConsistencyModelPipeline}[family]
        pipe = kind.from_pretrained(folder)
        pipe.set_progress_bar_config(disable=True)
        network = pipe.transformer if family == "dit" else pipe.unet
    clock = network.forward = Clock(network.forward)
    loaded = time.perf_counter()
    if family == "dit":
        images = pipe(
            LABELS, guidance_scale=4.0, generator=streams, num_inference_steps=STEPS, output_type="np"
        ).images
    elif family == "consistency":
        images = pipe(
            len(LABELS), class_labels=LABELS, generator=streams, num_inference_steps=STEPS, output_type="np"
        ).images
    else:
        from ppcore.seeds import PerSampleNoise
        from ppgen.generators.biggan import truncated_normal

        noise = truncated_normal(PerSampleNoise(SEEDS).randn((network.config.z_dim,)), 1.0)
        with torch.no_grad():
            images = network(noise, torch.eye(1000)[LABELS], 1.0).permute(0, 2, 3, 1).numpy() / 2 + 0.5
    return made(torch.from_numpy(images).permute(0, 3, 1, 2), clock, start, loaded)


def ours(family: str, folder: str, images: int = len(LABELS), default: bool = False) -> Made:
    """The same images by ppgen.

    Args:
        images: the first so many.
        default: with the default settings of the sampler.
    """
    from ppgen.generators import load_generator

    torch.set_num_threads(1)
    sampling = {
        "dit": {"solver": "ddim", "steps": STEPS, "guidance": 4.0, "guidance_interval": None},
        "sit": {"solver": "flow_euler", "steps": STEPS},
        "consistency": {"steps": STEPS},
        "biggan": {},
        "var": {},
    }[family]
    start = time.perf_counter()
    generator: Any = load_generator(folder, device="cpu", sampling={} if default else sampling)
    timed = generator.network if family == "var" else generator
    name = {"biggan": "_forward", "var": "forward"}.get(family, "_predict")
    clock = Clock(getattr(timed, name))
    setattr(timed, name, clock)
    loaded = time.perf_counter()
    found = generator.sample_float(torch.eye(1000)[LABELS[:images]], SEEDS[:images])
    return made(found / 2 + 0.5, clock, start, loaded)


def made(images: torch.Tensor, clock: Clock, start: float, loaded: float) -> Made:
    """The result of a side that has just finished."""
    sampling, step = time.perf_counter() - loaded, clock.seconds / clock.calls
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return Made(images.clamp(0, 1).float().clone(), loaded - start, sampling, step, peak)


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a new process, whose memory is its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def compare(family: str) -> bool:
    """Measure one model and print it. Returns whether everything is within its limits."""
    with tempfile.TemporaryDirectory(prefix="real-shapes-") as folder:
        apart(write, family, folder)
        sizes = {path: path.stat().st_size / 1e9 for path in sorted(Path(folder).rglob("*.*"))}
        files = ", ".join(
            f"{path.relative_to(folder)} {size:.2f} GB" for path, size in sizes.items() if size > 0.01
        )
        print(
            f"{family}: {files}; {len(LABELS)} images, {STEPS if family != 'biggan' else 1} steps", flush=True
        )
        sides: dict[str, Made] = {}
        for side in (published, ours):
            result = sides[side.__name__] = apart(side, family, folder)
            print(
                f"  {side.__name__:9}  load {result.load:6.1f} s  a step {result.step:6.2f} s  all images "
                f"{result.sampling:6.1f} s  peak {result.peak:.2f} GiB",
                flush=True,
            )
    theirs, images = sides["published"].images, sides["ours"].images
    levels = ((theirs * 255).round() - (images * 255).round()).abs()
    spread = float(theirs.std())
    print(
        f"  largest difference {float((theirs - images).abs().max()):.1e} of [0, 1]; {float((levels == 0).float().mean()):.4%} of "
        f"the values equal, largest difference {int(levels.max())} grey levels; standard deviation of the values {spread:.3f}"
    )
    return levels.max() <= 1 and spread > 0.01 and all(side.peak < MOST_GIB for side in sides.values())


def measure(family: str, images: int = len(LABELS), default: bool = False) -> Made:
    """Run our side alone and print what it took."""
    with tempfile.TemporaryDirectory(prefix="real-shapes-") as folder:
        apart(write, family, folder)
        result: Made = apart(ours, family, folder, images, default)
    network, decoder = models.var_flops(16) if family == "var" else models.dit_flops(models.DIT_XL_2_256)
    evaluations = 2 if family == "var" else (26 if family == "dit" else STEPS + guided_steps())
    flop = images * (evaluations * network + decoder)
    print(
        f"{family}: {images} images, load {result.load:.1f} s, {result.sampling:.1f} s ({result.sampling / images:.1f} s an image), "
        f"{flop / 1e12:.2f} TFLOP, {flop / result.sampling / 1e9:.0f} GFLOP/s, peak {result.peak:.2f} GiB, standard deviation of the "
        f"values {float(result.images.std()):.3f}",
        flush=True,
    )
    return result


def guided_steps() -> int:
    """How many of SiT's steps are guided at the default guidance."""
    schedule = make_schedule(SiTOptions(solver="flow_euler", steps=STEPS))
    return sum(Guidance().active(schedule.path.ratio(i)) for i in range(STEPS))


def good(result: Made) -> bool:
    """Whether the images are not flat and the memory is within its limit."""
    return float(result.images.std()) > 0.01 and result.peak < MOST_GIB


def compare_default() -> bool:
    """One image each of VAR-d16 and DiT-XL/2 at their default settings."""
    var, dit = measure("var", 1, default=True), measure("dit", 1, default=True)
    print(f"VAR-d16 takes {var.sampling / dit.sampling:.3f} of the seconds of DiT-XL/2 (bound 0.333)")
    return good(var) and good(dit) and var.sampling <= dit.sampling / 3


def main() -> None:
    parser = argparse.ArgumentParser(description="Real networks beside the published code, on a CPU.")
    parser.add_argument(
        "family", nargs="*", help="dit, biggan, consistency (all by default); var, sit, default"
    )
    families = parser.parse_args().family or ["dit", "biggan", "consistency"]
    results = []
    for family in families:
        if family == "default":
            results.append(compare_default())
        else:
            results.append(good(measure(family)) if family in ("var", "sit") else compare(family))
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
