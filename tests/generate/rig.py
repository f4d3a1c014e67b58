"""Runs of ppgen with the painter of `dummy`, and what tests compare."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from dummy import SIDE, Reader
from PIL import Image

from ppcore.classifiers import ClassifierSpec, save_classifier
from ppcore.storage import Store
from ppgen.engines.events import Event, OnEvent
from ppgen.engines.run import prepare_job, run_job
from ppgen.generators import open_generator
from ppgen.journal import EventLog
from ppgen.options import HERE, EngineOptions, PlannedOptions, PseudoOptions, ShardOptions, SynthOptions
from ppgen.plan import build_pseudo_plan, build_synth_plan
from ppgen.plan.plan import Plan
from ppgen.shards.directory import read_plan
from ppgen.shards.worker import Job, Worker
from ppgen.sources.planned import planned_spec
from ppgen.sources.protocol import SourceSpec

SYNTH = [
    "--source",
    "dummy:build",
    "--device",
    "cpu",
    "--classes",
    "0,2,5",
    "--seed",
    "3",
    "--batch-size",
    "8",
]
SYNTH += ["--samples-per-shard", "20"]
"""What :func:`synth` makes, in the words of the command; `--per-class 25` is missing."""

SMALL = ShardOptions(seed=3, batch_size=8, samples_per_shard=20)


def synth_job(
    out: Path | str,
    classes: str | None = "0,2,5",
    per_class: int = 25,
    settings: ShardOptions = SMALL,
    spec: SourceSpec | None = None,
) -> Job:
    """75 pictures in 4 shards, the last one short."""
    spec = spec or SourceSpec("dummy:build", device="cpu")
    plan = build_synth_plan(
        open_generator(spec), spec, SynthOptions(classes=classes, per_class=per_class, shards=settings)
    )
    return prepare_job(str(out), plan, source=spec)


class Watch:
    """Keeps the events of a run, and calls `act` with each."""

    def __init__(self, act: OnEvent = lambda event: None) -> None:
        self.events: list[Event] = []
        self._act = act

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self._act(event)

    def of(self, kind: str) -> list[Any]:
        """The events of a kind."""
        return [event for event in self.events if event.event == kind]


def synth(out: Path | str, options: EngineOptions = HERE, watch: OnEvent | None = None, **job: object) -> int:
    """Exit status of a synth run."""
    return run_job(synth_job(out, **job), options, None, [watch] if watch else [])  # type: ignore[arg-type]


def logged(out: Path | str, workers: int = 1, **sampling: object) -> int:
    """Exit status of a synth run with an event log."""
    spec = SourceSpec("dummy:build", device="cpu", sampling=sampling)
    return run_job(synth_job(out, spec=spec), EngineOptions(workers=workers), None, [EventLog(Store(out))])


def pseudo(
    out: Path | str, target: Path, classifier: Path, settings: ShardOptions = SMALL, **request: object
) -> int:
    """Exit status of a pseudo run."""
    spec = SourceSpec("dummy:build", device="cpu", classifier=str(classifier), trust_code=True)
    if "count" not in request:
        request = {"per_image": 5, **request}
    wanted = PseudoOptions(str(target), shards=settings, **request)  # type: ignore[arg-type]
    plan, conditions = build_pseudo_plan(open_generator(spec), spec, wanted)
    return run_job(prepare_job(str(out), plan, source=spec), HERE, conditions)


def stored(out: Path | str) -> tuple[Store, Plan]:
    """Store and plan of a directory."""
    store = Store(out)
    return store, read_plan(store)


def worker_of(out: Path) -> Worker:
    """A worker on an existing directory."""
    _, plan = stored(out)
    typed = PlannedOptions(
        str(plan.load["source"]), str(plan.load["classifier"] or "") or None, trust_code=True
    )
    return Worker(Job(plan, str(out), planned_spec(plan.load, typed, "cpu")))


def make_classifier(folder: Path, num_classes: int = 10) -> Path:
    """A model directory of the classifier that reads the painted row."""
    names = tuple(f"class {i}" for i in range(num_classes))
    spec = ClassifierSpec("dummy:Reader", names, channels=1, resolution=SIDE)
    save_classifier(folder, Reader(num_classes), spec)
    return folder


def make_target(folder: Path, classes: int = 3, images: int = 6, damaged: bool = False) -> Path:
    """An image folder of grey 16x16 PNGs whose first row is a random soft label."""
    rng = np.random.default_rng(0)
    for label in range(classes):
        (folder / f"c{label}").mkdir(parents=True)
        for number in range(images):
            picture = rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
            Image.fromarray(picture).save(folder / f"c{label}" / f"{number}.png")
    if damaged:
        for number in (1, 2):  # one of them at least is no test image
            (folder / "c0" / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    return folder


def painted(image: bytes) -> np.ndarray:
    """float (10,), the condition an image was painted with, to 1/255."""
    import io

    return np.asarray(Image.open(io.BytesIO(image)))[0, :10] / 255.0


def fingerprints(out: Path) -> dict[str, str]:
    """sha256 of every file that must not depend on how it came about."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(out).rglob("*"))
        if path.is_file() and path.parent.name not in ("commits", "logs")
    }


def recommit(out: Path, shard: int) -> None:
    """Make the commit record agree with tampered files, as a liar would."""
    path = out / f"commits/{shard:06d}.json"
    record = json.loads(path.read_text())
    for name, file in (("tar", f"shards/{shard:06d}.tar"), ("parquet", f"meta/{shard:06d}.parquet")):
        data = (out / file).read_bytes()
        record[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    path.write_text(json.dumps(record))


def flip(path: Path, where: int) -> None:
    """Change one bit of a byte."""
    data = bytearray(path.read_bytes())
    data[where] ^= 1
    path.write_bytes(bytes(data))
