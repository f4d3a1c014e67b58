"""Images/s of the trainer's input pipeline against webdataset, litdata and mosaicml-streaming, weak and strong view of every image.

    python -m venv peers && peers/bin/pip install -r benchmarks/stream_peers.txt
    python benchmarks/stream.py --peers peers/bin/python           # two processes' worth of cores, about five minutes

The same JPEG tars (256 pixels) and, converted once to each peer's own format, the same images go through every pipeline; so for
32 pixels. Peers decode with Pillow and make a random-resized-crop view and one with RandAugment more (torchvision), as open_clip
would wire it; ours are pptrain's weak and strong views. Rounds are interleaved and medians printed. Peers that are not installed are
left out. The last lines are the share of step time a real small network waits for data.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
SIZES = {256: 224, 32: 32}  # stored -> fed
IMAGES = {256: 2_000, 32: 20_000}
SHARDS = 16
CLASSES = 100
PEERS = ("webdataset", "litdata", "streaming")
OURS = {"ours": "views on the CPU", "ours-uint8": "uint8 batches, views left to a GPU"}


def pictures(side: int, count: int) -> Iterator[np.ndarray]:
    """uint8 (side, side, 3) with the spectrum of photographs (amplitude ~ 1/f^1.2)."""
    rng = np.random.default_rng(0)
    frequency = np.fft.rfftfreq(side)[None] ** 2 + np.fft.fftfreq(side)[:, None] ** 2
    frequency[0, 0] = 1.0
    for _ in range(count):
        noise = np.fft.rfft2(rng.normal(size=(4, side, side))) / frequency**0.6
        planes = np.fft.irfft2(noise, (side, side))
        planes /= planes.std(axis=(1, 2), keepdims=True)
        mixed = 0.8 * planes[:1] + 0.3 * planes[1:]
        yield np.clip(mixed * 50 + 128, 0, 255).astype(np.uint8).transpose(1, 2, 0)


def prepare(root: Path, side: int) -> Path:
    """A finished shard directory as ppgen synth writes it (JPEG, its default quality)."""
    from ppgen.plan.build import choose_encoding
    from ppgen.shards.pack import make_encoder

    folder = root / f"shards-{side}"
    if (folder / "index.json").exists():
        return folder
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    encode = make_encoder(choose_encoding("jpg", side))
    distinct = [encode(p.transpose(2, 0, 1)) for p in pictures(side, 500)]
    entries, index = [], 0
    for shard in range(SHARDS):
        path = folder / "shards" / f"{shard:06d}.tar"
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
            for _ in range(IMAGES[side] // SHARDS):
                for name, data in (("jpg", distinct[index % 500]), ("cls", str(index % CLASSES).encode())):
                    member = tarfile.TarInfo(f"{index:09d}.{name}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
                index += 1
        size = path.stat().st_size
        entries.append(
            {
                "index": shard,
                "url": f"shards/{path.name}",
                "nsamples": IMAGES[side] // SHARDS,
                "filesize": size,
                "sha256": "",
            }
        )
    plan = {
        "format": "pptransfer-shards",
        "version": 2,
        "kind": "synth",
        "fingerprint": f"benchmark-{side}",
        "source": {"name": "benchmark", "class_names": [str(c) for c in range(CLASSES)]},
        "classes": list(range(CLASSES)),
        "resolution": side,
        "channels": 3,
    }
    (folder / "plan.json").write_text(json.dumps(plan))
    (folder / "index.json").write_text(json.dumps({"shardlist": entries}))
    return folder


def ours(folder: Path, side: int, batch: int, seconds: float, *, views: bool, cores: int) -> float:
    """Images/s of StreamFeed, with both views or as uint8 batches."""
    import torch

    from ppcore.platforms import keep_freed_memory
    from pptrain.config import ViewsConfig
    from pptrain.data import BatchShare, StreamFeed, ViewKey, ViewKind, Views, open_shard_pool

    torch.set_num_threads(cores if side > 64 else 1)
    keep_freed_memory()  # as pptrain run does on a CPU
    workers = max(1, cores // 2) if views else cores
    feed = StreamFeed(
        [open_shard_pool([str(folder)], "synth")], BatchShare(batch), seed=0, name="x", workers=workers
    )
    make = Views(ViewsConfig(), SIZES[side], 3, 0)
    batches = enumerate(feed.batches(0))
    done, start = 0, 0.0
    for step, images in batches:
        if views:
            weak = make.make(images.images, ViewKind.WEAK, ViewKey("weak", step))
            strong = make.make(images.images, ViewKind.STRONG, ViewKey("strong", step))
            assert weak.shape == strong.shape == (batch, 3, SIZES[side], SIZES[side])
        if step == 2 * workers:
            start, done = time.monotonic(), 0
        done += batch
        if start and time.monotonic() - start > seconds:
            return (done - batch) / (time.monotonic() - start)
    raise AssertionError("the stream never ends")


def decode_alone(folder: Path, cores: int) -> float:
    """The floor: images/s of nothing but decoding JPEG bytes to RGB, by processor time, over all cores."""
    import simplejpeg

    with tarfile.open(folder / "shards" / "000000.tar") as archive:
        members = [member for member in archive.getmembers() if member.name.endswith(".jpg")]
        files = [archive.extractfile(member).read() for member in members[:200]]  # type: ignore[union-attr]
    rates = []
    for _ in range(5):
        start = time.process_time()
        for data in files:
            simplejpeg.decode_jpeg(data)
        rates.append(cores * len(files) / (time.process_time() - start))
    return statistics.median(rates)


def measure(name: str, folder: Path, side: int, options: argparse.Namespace) -> float | None:
    """One contestant in a process of its own; None when it is not installed."""
    shared = [str(folder), str(side), str(options.batch), str(options.seconds), str(options.cores)]
    if name in OURS:
        command = [sys.executable, __file__, "--one", name, *shared]
    else:
        command = [options.peers, str(HERE / "stream_peers.py"), name, *shared, str(SIZES[side])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        print(f"{name} did not run: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return float(done.stdout.strip().splitlines()[-1])


def waiting(folder: Path, out: Path) -> float:
    """Share of the time a real training run of the `small` network spends waiting for the stream."""
    from pptrain.config import load_config
    from pptrain.engine import train

    settings = {"data.shards": str(folder), "data.resident_mb": 0, "data.workers": 1, "out": str(out)}
    settings |= {"optim.steps": 60, "optim.batch_size": 128, "loop.tensorboard": False, "loop.log_every": 60}
    train(load_config(overrides=settings), quiet=True)
    header, *rows = [line.split(",") for line in (out / "metrics.csv").read_text().splitlines()]
    return float(rows[-1][header.index("waiting")])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", default=sys.executable, help="Python of the peers' virtual environment")
    parser.add_argument("--root", default="", help="where to keep the shards (default: a temporary folder)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--one", nargs=6, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, folder, side, batch, seconds, cores = options.one
        rate = ours(
            Path(folder), int(side), int(batch), float(seconds), views=name == "ours", cores=int(cores)
        )
        print(rate)
        return
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(options.root or temporary)
        for side in SIZES:
            folder = prepare(root, side)
            names = [*OURS, *PEERS]
            rates: dict[str, list[float]] = {name: [] for name in names}
            for _ in range(options.rounds):
                for name in list(names):
                    rate = measure(name, folder, side, options)
                    if rate is None:
                        names.remove(name)
                    else:
                        rates[name].append(rate)
            medians = {name: statistics.median(values) for name, values in rates.items() if values}
            best = max((medians[name] for name in PEERS if name in medians), default=None)
            print(f"{side}-pixel JPEG shards, batches of {options.batch}, {options.cores} cores:")
            print(f"  {'floor':12s} {decode_alone(folder, options.cores):8.0f} images/s  decoding alone")
            for name, rate in medians.items():
                against = f"  {rate / best:.2f}x the best peer" if best and name in OURS else ""
                print(f"  {name:12s} {rate:8.0f} images/s  {OURS.get(name, '')}{against}")
        share = waiting(root / "shards-32", Path(temporary) / "run")
        print(f"small network at 32 pixels: {share:.1%} of the step time spent waiting for the stream")


if __name__ == "__main__":
    main()
