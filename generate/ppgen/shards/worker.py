"""One shard from start to commit: sample, encode, pack, write, and write the commit record last."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ppcore.errors import UserError
from ppcore.shards import CONDITIONS, commit_path, meta_path, tar_path
from ppcore.storage import Store
from ppgen.generators import open_generator
from ppgen.plan import Conditions, Plan, Rows, canonical_json, condition_rows
from ppgen.shards.encode import make_encoder
from ppgen.shards.pack import Samples, pack
from ppgen.shards.redraw import count_redrawn, redraw, with_attempts
from ppgen.sources import SourceSpec, choose_device, describe_source, open_classifier

if TYPE_CHECKING:
    from ppcore.classifiers import Classifier
    from ppgen.sources import Generator

SMALL_SIDE = 64  # up to this many pixels a side one CPU thread a process is fastest
_BATCHES_AHEAD = 3  # encoded behind the sampler before it has to wait
_ENCODE_THREADS = 4
_PACKAGES = ("pptransfer", "torch", "diffusers", "numpy", "pyarrow", "pillow", "simplejpeg")

OnBatch = Callable[[int], None]


@dataclass(frozen=True)
class Job:
    """What a worker needs to know, on any machine: picklable, no tensors.

    Attributes:
        plan: the frozen plan.
        out: root of the shard directory, local path or URL.
        source: how to load the generator and, for scored plans, the classifier.
        threads: CPU threads of torch in each worker.
    """

    plan: Plan
    out: str
    source: SourceSpec
    threads: int = 1


class Worker:
    """Makes shards of one job, one generator loaded once.

    Args:
        job: what to make.
        generator: an already loaded one; None loads it.

    Raises:
        UserError: the source cannot be had here, or is not the one of the plan.
    """

    def __init__(self, job: Job, generator: Generator | None = None) -> None:
        if choose_device(job.source.device).type == "cpu":
            torch.set_num_threads(job.threads)
        # The fastest convolution may differ from run to run, and with it the last bits of an image.
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        self.plan, self.job = job.plan, job
        self.store = Store(job.out)
        self._generator = open_generator(job.source) if generator is None else generator
        self._require_planned_source()
        self._conditions: Conditions | None = None
        if job.plan.kind == "pseudo":
            self._conditions = Conditions.from_parquet(self.store.read(CONDITIONS), job.plan)
        self._classifier: Classifier | None = None
        if job.plan.score:
            self._classifier = open_classifier(
                job.source, job.plan.num_classes, job.plan.source["class_names"]
            )
        self._encode = make_encoder(job.plan.encoding)
        self._encoders = ThreadPoolExecutor(min(_ENCODE_THREADS, os.cpu_count() or 1), "encode")
        self._finisher = ThreadPoolExecutor(1, "commit")

    def close(self) -> None:
        """Finish what has begun and stop the threads."""
        self._finisher.shutdown(wait=True)
        self._encoders.shutdown(wait=True)

    def make(self, shard: int, on_batch: OnBatch | None = None) -> dict[str, Any]:
        """Make and commit one shard; returns its commit record."""
        return self.begin(shard, on_batch).result()

    def begin(self, shard: int, on_batch: OnBatch | None = None) -> Future[dict[str, Any]]:
        """Sample a shard now and return while it is still being encoded, written and committed.

        Sampling the next shard overlaps the commit of this one. Callers hold at most one such future at a time.

        Args:
            shard: number of the shard.
            on_batch: called with the number of samples after every batch.

        Raises:
            RuntimeError: the generator broke its contract.
        """
        start = time.monotonic()
        collect = self._sample(shard, on_batch)
        sampled = time.monotonic() - start
        return self._finisher.submit(
            lambda: self._commit(shard, collect(), {"sampling": sampled, "start": start})
        )

    def _sample(self, shard: int, on_batch: OnBatch | None = None) -> Callable[[], Samples]:
        """Sample a shard and start its encoding; the function returned waits for that."""
        rows = self.plan.sample_rows(shard)
        condition, label = condition_rows(self.plan, rows, self._conditions)
        encoded: list[Future[list[bytes]]] = []
        scores: list[np.ndarray] = []
        for where in self.plan.batches(shard):
            images, score = self.sample_batch(rows.select(where), condition[where])
            if len(encoded) >= _BATCHES_AHEAD:
                encoded[-_BATCHES_AHEAD].result()  # bounds the raw images held in memory
            encoded.append(self._encoders.submit(self._encode_batch, _HostCopy(images)))
            if score is not None:
                scores.append(score)
            if on_batch is not None:
                on_batch(where.stop - where.start)
        confidence = np.concatenate(scores) if scores else None
        attempt, again = None, {}
        if self.plan.redraw is not None and confidence is not None:
            kept = redraw(self.plan, rows, condition, confidence, self.sample_batch)
            rows, attempt, confidence = with_attempts(rows, kept.attempt), kept.attempt, kept.confidence
            again = {
                r: self._encoders.submit(self._encode_batch, _HostCopy(i[None]))
                for r, i in kept.images.items()
            }

        def collect() -> Samples:
            files = [image for batch in encoded for image in batch.result()]
            for row, batch in again.items():
                files[row] = batch.result()[0]
            ids = None
            if rows.target is not None and self._conditions is not None:
                ids = [self._conditions.target_ids[t] for t in rows.target]
            return Samples(rows, condition, label, files, confidence, attempt, ids)

        return collect

    def sample_batch(self, rows: Rows, condition: np.ndarray) -> tuple[torch.Tensor, np.ndarray | None]:
        """Sample one batch of the plan, padded to the plan's batch size so that every forward pass has one shape.

        Args:
            rows: n planned samples, n at most the batch size.
            condition: float32 (n, K).

        Returns:
            uint8 (n, C, R, R) on the generator's device, and float32 (n,) confidence where the plan asks for it.
        """
        count, size = len(rows), self.plan.batch_size
        padded = np.minimum(np.arange(size), count - 1)  # the last row fills a short batch
        labels = torch.from_numpy(np.ascontiguousarray(condition[padded]))
        seeds = torch.from_numpy(rows.seed[padded])
        with torch.inference_mode():
            images = self._generator.sample(labels, seeds)
            expected = (size, self.plan.channels, self.plan.resolution, self.plan.resolution)
            if tuple(images.shape) != expected or images.dtype != torch.uint8:
                raise RuntimeError(
                    f"the generator returned {images.dtype} {tuple(images.shape)}, expected torch.uint8 {expected}"
                )
            if self._classifier is None:
                return images[:count], None
            device = next(self._classifier.buffers()).device
            probabilities = self._classifier(images.to(device)).softmax(dim=1)
            score = (probabilities * labels.to(device)).sum(dim=1)[:count]
        return images[:count], score.float().cpu().numpy()

    def regenerate(self, shard: int, row: int) -> tuple[list[bytes], slice]:
        """Encoded images of the whole batch that holds row `row` of a shard, and the rows they are.

        Where samples are drawn again, batches hold several rows' draws, and the whole shard is sampled.
        """
        if self.plan.redraw is not None:
            return self._sample(shard)().images, slice(0, self.plan.locate(shard)[2])
        rows = self.plan.sample_rows(shard)
        condition, _ = condition_rows(self.plan, rows, self._conditions)
        where = next(batch for batch in self.plan.batches(shard) if batch.start <= row < batch.stop)
        images, _ = self.sample_batch(rows.select(where), condition[where])
        return self._encode_batch(_HostCopy(images)), where

    def _encode_batch(self, images: _HostCopy) -> list[bytes]:
        return [self._encode(image) for image in images.wait()]

    def _commit(self, shard: int, samples: Samples, clock: dict[str, float]) -> dict[str, Any]:
        tar, meta = pack(self.plan, shard, samples)
        self.store.write_atomic(tar_path(shard), tar)
        self.store.write_atomic(meta_path(shard), meta)
        record = {
            "shard": shard,
            "fingerprint": self.plan.shard_fingerprint(shard),
            "samples": len(samples.rows),
            "first_index": int(samples.rows.index[0]),
            **count_redrawn(self.plan, samples.attempt, samples.confidence),
            "tar": _facts(tar),
            "parquet": _facts(meta),
            "seconds": {
                "sampling": round(clock["sampling"], 3),
                "total": round(time.monotonic() - clock["start"], 3),
            },
            "host": platform.node(),
            "device": str(choose_device(self.job.source.device)),
            "threads": torch.get_num_threads(),
            "versions": library_versions(),
        }
        self.store.write_atomic(commit_path(shard), json.dumps(record, indent=1).encode() + b"\n")
        return record

    def _require_planned_source(self) -> None:
        here = json.loads(canonical_json(describe_source(self._generator, self.job.source)))
        differing = sorted(
            key for key in here.keys() | self.plan.source.keys() if here.get(key) != self.plan.source.get(key)
        )
        if differing:
            raise UserError(
                f"the generator loaded on {platform.node()} is not the one of the plan (they differ in {', '.join(differing)}); "
                f"give every machine the same weights and settings"
            )


class _HostCopy:
    """Images on their way to the host: queued behind the sampler's own kernels, so that nothing that comes after overwrites
    them and the sampler does not wait."""

    def __init__(self, images: torch.Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._host = images
        if images.device.type == "cuda":
            self._host = torch.empty(images.shape, dtype=images.dtype, pin_memory=True)
            self._host.copy_(images, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(images.device))

    def wait(self) -> np.ndarray:
        """uint8 (n, C, R, R), once the copy has arrived."""
        if self._event is not None:
            self._event.synchronize()
        return self._host.numpy()


@functools.cache  # looking them up takes longer than packing a thousand small pictures
def library_versions() -> dict[str, str]:
    """Versions of what decides the bytes."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _facts(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
