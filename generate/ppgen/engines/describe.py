"""What a source says of itself where the workers will be: a driver without a GPU plans for workers with one, and a driver with GPUs
keeps no model on them beside those of its workers."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import torch

from ppgen.engines.failures import Failure
from ppgen.engines.gpus import gpu_share, limit_gpu_memory, visible_gpus
from ppgen.engines.ray import ask_worker, cluster, make_reservation, require_room
from ppgen.generators import open_generator
from ppgen.plan import Conditions, Rate
from ppgen.shards import Job, calibrate
from ppgen.sources import Generator, SourceSpec, automatic_batch_size


@dataclass(frozen=True)
class DescribedSource:
    """A generator elsewhere, as far as a plan needs it; see :class:`ppgen.sources.Generator`.

    Attributes:
        automatic_batch: what :func:`ppgen.sources.automatic_batch_size` found there.
    """

    num_classes: int
    class_names: tuple[str, ...]
    resolution: int
    channels: int
    licence: str
    revision: str
    description: dict[str, Any]
    automatic_batch: int

    def describe(self) -> dict[str, Any]:
        """The generator's own words."""
        return self.description

    def sample(self, condition: torch.Tensor, seeds: torch.Tensor) -> NoReturn:
        """It is elsewhere."""
        raise AssertionError("a described source does not sample")


@dataclass(frozen=True)
class Workplace:
    """Where the workers of a run will be, as its options say: see :func:`ppgen.engines.make_engine`."""

    engine: str = "inline"
    workers: int | None = None
    cpus_per_worker: float | None = None
    gpus_per_worker: float | None = None
    address: str | None = None


@dataclass(frozen=True)
class Describer:
    """Opens a source, on a worker, to describe it."""

    spec: SourceSpec
    gpu_share: float = 1.0

    def load(self) -> DescribedSource | Failure:
        """The description, or why there is none."""
        try:
            limit_gpu_memory(self.gpu_share)
            found = open_generator(self.spec)
            return DescribedSource(
                num_classes=found.num_classes,
                class_names=tuple(found.class_names),
                resolution=found.resolution,
                channels=found.channels,
                licence=found.licence,
                revision=found.revision,
                description=found.describe(),
                automatic_batch=automatic_batch_size(found),
            )
        except Exception as error:
            return Failure.of(error)


@dataclass(frozen=True)
class Calibrator:
    """Measures a job's rate, on a worker."""

    job: Job
    conditions: Conditions | None
    gpu_share: float = 1.0

    def load(self) -> Rate | Failure:
        """See :func:`ppgen.shards.calibrate`."""
        try:
            limit_gpu_memory(self.gpu_share)
            return calibrate(self.job, open_generator(self.job.source), self.conditions)
        except Exception as error:
            return Failure.of(error)


def open_for_plan(spec: SourceSpec, place: Workplace) -> tuple[SourceSpec, Generator]:
    """The source, and how workers are to open it: loaded here where this process or its like will sample, else described by one
    of them.

    Raises:
        UserError: as :func:`ppgen.generators.open_generator`, or there is no such device where the workers are.
    """
    if place.engine == "ray" and _may_have_gpus(spec.device, place):
        with cluster(place.address) as grows:
            reservation = make_reservation(spec.device, place.cpus_per_worker or 1.0, place.gpus_per_worker)
            if reservation.gpus:
                require_room(reservation, grows)
                share = reservation.gpus if reservation.gpus < 1 else 1.0
                return spec, _answer(ask_worker(reservation, Describer, (spec, share)))
    if place.engine == "ray" and spec.device == "auto":
        spec = replace(spec, device="cpu")  # Ray hides the GPUs that a worker has not reserved
    gpus = visible_gpus(spec.device) if place.engine == "inline" and (place.workers or 1) > 1 else []
    if gpus:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, context) as apart:
            share = gpu_share(place.workers or 1, len(gpus))
            return spec, _answer(apart.submit(_describe_on, gpus[0], Describer(spec, share)).result())
    return spec, open_generator(spec)


def calibrate_for(job: Job, generator: Generator, conditions: Conditions | None, place: Workplace) -> Rate:
    """How fast one worker is, measured where the source was opened for the plan."""
    if not isinstance(generator, DescribedSource):
        return calibrate(job, generator, conditions)
    if place.engine == "inline":
        return calibrate(job, open_generator(job.source), conditions)
    with cluster(place.address):
        reservation = make_reservation(job.source.device, place.cpus_per_worker or 1.0, place.gpus_per_worker)
        return _answer(ask_worker(reservation, Calibrator, (job, conditions, min(reservation.gpus, 1.0))))


def spec_here(spec: SourceSpec, generator: Generator) -> SourceSpec:
    """How this process opens what goes with a source, such as its classifier, which need not be where the workers are."""
    return replace(spec, device="auto") if isinstance(generator, DescribedSource) else spec


def _may_have_gpus(device: str, place: Workplace) -> bool:
    if device == "cpu" or place.gpus_per_worker == 0:
        return False
    return place.address is not None or torch.cuda.is_available() or device != "auto"


def _describe_on(gpu: str, describer: Describer) -> DescribedSource | Failure:
    os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # before anything asks CUDA
    return describer.load()


def _answer(answer: Any) -> Any:
    if isinstance(answer, Failure):
        raise answer.error
    return answer
