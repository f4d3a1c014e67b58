"""The samples of one shard: planned rows -> conditions -> images -> encoded files, in batches of the plan's size."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from ppcore.classifiers import Classifier
from ppgen.plan import Conditions, Plan, Rows, condition_rows
from ppgen.shards.encode import make_encoder
from ppgen.shards.pack import Samples
from ppgen.shards.redraw import BAD, redraw, with_attempts
from ppgen.sources import Generator, sample_checked

_BATCHES_AHEAD = 3  # encoded behind the sampler before it has to wait
_ENCODE_THREADS = 4

OnBatch = Callable[[int], None]


@dataclass(frozen=True)
class _Drawn:
    """A batch on the generator's device, not waited for.

    Attributes:
        images: uint8 (n, C, R, R).
        merit: float32 (n,), the confidence where the plan asks for it, else 1, and :data:`ppgen.shards.redraw.BAD` for what is no
            image; None where nothing can be said against any.
    """

    images: torch.Tensor
    merit: torch.Tensor | None

    def on_host(self) -> tuple[torch.Tensor, np.ndarray]:
        """Images and merit for :func:`ppgen.shards.redraw.redraw`."""
        good = np.ones(len(self.images), dtype=np.float32)
        return self.images, good if self.merit is None else self.merit.cpu().numpy()


class Sampler:
    """Samples the shards of one plan with a loaded generator; encoding runs in threads of its own.

    Args:
        conditions: the table of a pseudo plan.
        classifier: scores the samples of a plan that asks for it.
    """

    def __init__(
        self, plan: Plan, generator: Generator, conditions: Conditions | None, classifier: Classifier | None
    ) -> None:
        self._plan, self._generator = plan, generator
        self._conditions, self._classifier = conditions, classifier
        self._scored_in_half = (plan.score or {}).get("dtype") == "bfloat16"
        self._on_gpu = torch.device(getattr(generator, "device", "cpu")).type == "cuda"
        self._encode = make_encoder(plan.encoding)
        self._encoders = ThreadPoolExecutor(min(_ENCODE_THREADS, os.cpu_count() or 1), "encode")

    def close(self) -> None:
        """Finish what has begun and stop the threads."""
        self._encoders.shutdown(wait=True)

    def sample(self, shard: int, on_batch: OnBatch | None = None) -> Callable[[], Samples]:
        """Sample a shard and start its encoding; the function returned waits for that.

        Args:
            on_batch: called with the number of samples after every batch.

        Raises:
            RuntimeError: the generator broke its contract, or made too many images that are none.
        """
        plan = self._plan
        rows = plan.sample_rows(shard)
        condition, label = condition_rows(plan, rows, self._conditions)
        batches: list[Future[list[bytes]]] = []
        merits: list[torch.Tensor] = []
        for where in plan.batches(shard):
            drawn = self._sample_batch(rows.select(where), condition[where])
            if len(batches) >= _BATCHES_AHEAD:
                batches[-_BATCHES_AHEAD].result()  # bounds the raw images held in memory
            batches.append(self._start_encoding(drawn.images))
            if drawn.merit is not None:
                merits.append(drawn.merit)
            if on_batch is not None:
                on_batch(where.stop - where.start)
        # The only wait for the device in a shard: scores and flags stay there until here.
        merit = torch.cat(merits).cpu().numpy() if merits else None
        attempt: np.ndarray | None = None
        replaced: dict[int, Future[list[bytes]]] = {}
        bad = 0 if merit is None else int((merit < 0).sum())
        if merit is not None and (plan.redraw is not None or bad):
            kept = redraw(plan, rows, condition, merit, lambda r, c: self._sample_batch(r, c).on_host())
            rows, attempt, merit = with_attempts(rows, kept.attempt), kept.attempt, kept.merit
            replaced = {row: self._start_encoding(image[None]) for row, image in kept.images.items()}
        confidence = None if plan.score is None else merit

        def collect() -> Samples:
            files = [file for batch in batches for file in batch.result()]
            for row, batch in replaced.items():
                files[row] = batch.result()[0]
            ids = None
            if rows.target is not None and self._conditions is not None:
                ids = [self._conditions.target_ids[target] for target in rows.target]
            return Samples(rows, condition, label, files, confidence, attempt, ids, bad)

        return collect

    def resample(self, shard: int, row: int, whole: bool) -> tuple[list[bytes], slice]:
        """Encoded images of the whole batch that holds row `row` of a shard, and the rows they are.

        Args:
            whole: sample the whole shard: where samples were drawn again, batches held several rows' draws.
        """
        plan = self._plan
        if whole:
            return self.sample(shard)().images, slice(0, plan.locate(shard)[2])
        rows = plan.sample_rows(shard)
        condition, _ = condition_rows(plan, rows, self._conditions)
        where = next(batch for batch in plan.batches(shard) if batch.start <= row < batch.stop)
        drawn = self._sample_batch(rows.select(where), condition[where])
        return self._start_encoding(drawn.images).result(), where

    def _sample_batch(self, rows: Rows, condition: np.ndarray) -> _Drawn:
        """Sample one batch of the plan, padded to the plan's batch size so that every forward pass has one shape.

        Args:
            rows: n planned samples, n at most the batch size.
            condition: float32 (n, K).
        """
        count, size = len(rows), self._plan.batch_size
        padded = np.minimum(np.arange(size), count - 1)  # the last row fills a short batch
        labels = torch.from_numpy(np.ascontiguousarray(condition[padded]))
        seeds = torch.from_numpy(rows.seed[padded])
        if self._on_gpu:  # from pinned memory the copies to the GPU do not wait for what it is doing
            labels, seeds = labels.pin_memory(), seeds.pin_memory()
        with torch.inference_mode():
            images, bad = sample_checked(self._generator, labels, seeds)
            expected = (size, self._plan.channels, self._plan.resolution, self._plan.resolution)
            if tuple(images.shape) != expected or images.dtype != torch.uint8:
                raise RuntimeError(
                    f"the generator returned {images.dtype} {tuple(images.shape)}, expected torch.uint8 {expected}"
                )
            merit = None
            if self._classifier is not None:
                merit = self._score(self._classifier, images, labels)[:count]
            if bad is not None:
                good = images.new_ones(count, dtype=torch.float32) if merit is None else merit
                merit = good.masked_fill(bad[:count].to(good.device), BAD)
        return _Drawn(images[:count], merit)

    def _score(self, classifier: Classifier, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The probability of their own conditions, float32 (n,) on the classifier's device."""
        device = next(classifier.buffers()).device
        with torch.autocast(device.type, torch.bfloat16, enabled=self._scored_in_half):
            logits = classifier(images.to(device, non_blocking=True))
        probabilities = logits.float().softmax(dim=1)
        return (probabilities * labels.to(device, non_blocking=True)).sum(dim=1).float().nan_to_num(0.0)

    def _start_encoding(self, images: torch.Tensor) -> Future[list[bytes]]:
        """uint8 (n, C, R, R) -> n files."""
        copy = _HostCopy(images)
        return self._encoders.submit(lambda: [self._encode(image) for image in copy.wait()])


class _HostCopy:
    """Images on their way to the host, on a stream of their own: the sampler's next kernels and the copy run side by side, and nobody
    waits until the encoder does."""

    def __init__(self, images: torch.Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._host = images
        if images.device.type == "cuda":
            self._host = torch.empty(images.shape, dtype=images.dtype, pin_memory=True)
            side = _copy_stream(images.device)
            side.wait_stream(torch.cuda.current_stream(images.device))
            with torch.cuda.stream(side):
                self._host.copy_(images, non_blocking=True)
            images.record_stream(side)  # its memory is not given to another tensor before the copy is done
            self._event = side.record_event()

    def wait(self) -> np.ndarray:
        """uint8 (n, C, R, R), once the copy has arrived."""
        if self._event is not None:
            self._event.synchronize()
        return self._host.numpy()


@functools.cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
