"""Sampling one shard: planned rows -> conditions -> images -> encoded files, in batches of the plan's size."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch

from ppcore.classifiers import Classifier
from ppcore.errors import UserError
from ppcore.seeds import derive
from ppgen.plan import Conditions, Plan, Rows, condition_rows
from ppgen.shards.pack import Samples, make_encoder
from ppgen.sources import Generator, sample_checked

_BATCHES_AHEAD = 3  # encoded behind the sampler before it has to wait
_ENCODE_THREADS = 4
MAX_DRAWS = 10
"""Draws of a bad image, the first included."""
_BAD_SHARE = (
    0.1  # of a shard; with more the model or its GPU computes wrongly and drawing again does not help
)
_WRONG = "the source or this device computes wrongly (try another dtype)"

OnBatch = Callable[[int], None]


class BadImagesError(RuntimeError):
    """A shard has too many images with NaN or infinite values to draw them again; another GPU may compute correctly."""


@dataclass(frozen=True)
class _Drawn:
    """A batch on the generator's device, still being computed.

    Attributes:
        images: uint8 (n, C, R, R).
        confidence: float32 (n,), or None if the plan stores none.
        bad: bool (n,), images with NaN or infinite values; None if the generator does not report them.
    """

    images: torch.Tensor
    confidence: torch.Tensor | None
    bad: torch.Tensor | None


def with_attempts(rows: Rows, attempt: np.ndarray) -> Rows:
    """The rows with the seeds of the given draws, int (n,). Draw 0 has the sample's own seed."""
    seeds = [
        derive(int(s), "attempt", int(a)) if a else int(s) for s, a in zip(rows.seed, attempt, strict=True)
    ]
    return replace(rows, seed=np.array(seeds, dtype=np.int64))


class Sampler:
    """Samples the shards of one plan with a loaded generator; encoding runs in other threads.

    Args:
        conditions: the table of a pseudo plan.
        classifier: scores the samples of a plan that asks for it.
    """

    def __init__(
        self, plan: Plan, generator: Generator, conditions: Conditions | None, classifier: Classifier | None
    ) -> None:
        self._plan, self._generator = plan, generator
        self._conditions, self._classifier = conditions, classifier
        self._fits = False  # whether a batch has been sampled
        self._scored_in_half = (plan.score or {}).get("dtype") == "bfloat16"
        self._on_gpu = torch.device(getattr(generator, "device", "cpu")).type == "cuda"
        self._encode = make_encoder(plan.encoding)
        self._encoders = ThreadPoolExecutor(min(_ENCODE_THREADS, os.cpu_count() or 1), "encode")

    def close(self) -> None:
        """Wait for the shards that were begun and stop the threads."""
        self._encoders.shutdown(wait=True)

    def sample(self, shard: int, on_batch: OnBatch | None = None) -> Callable[[], Samples]:
        """Sample a shard and start its encoding; the function returned waits for that.

        Args:
            on_batch: called with the number of samples after every batch.

        Raises:
            UserError: the GPU is too small for a batch.
            RuntimeError: the generator broke its contract.
            BadImagesError: too many images have NaN or infinite values.
        """
        plan = self._plan
        rows = plan.sample_rows(shard)
        condition, label = condition_rows(plan, rows, self._conditions)
        batches: list[Future[list[bytes]]] = []
        confidences: list[torch.Tensor] = []
        flags: list[torch.Tensor] = []
        for where in plan.batches(shard):
            drawn = self._sample_batch(rows.select(where), condition[where])
            if len(batches) >= _BATCHES_AHEAD:
                batches[-_BATCHES_AHEAD].result()  # bounds the raw images held in memory
            batches.append(self._start_encoding(drawn.images))
            if drawn.confidence is not None:
                confidences.append(drawn.confidence)
            if drawn.bad is not None:
                flags.append(drawn.bad)
            if on_batch is not None:
                on_batch(where.stop - where.start)
        # Only here does a shard wait for the device: confidences and flags stay on it until all batches are sampled.
        confidence = torch.cat(confidences).cpu().numpy() if confidences else None
        bad = np.flatnonzero(torch.cat(flags).cpu().numpy()) if flags else np.zeros(0, dtype=np.int64)
        attempt: np.ndarray | None = None
        replaced: dict[int, Future[list[bytes]]] = {}
        if len(bad):
            attempt, images = self._draw_again(rows, condition, bad, confidence)
            rows = with_attempts(rows, attempt)
            replaced = {row: self._start_encoding(image[None]) for row, image in images.items()}

        def collect() -> Samples:
            files = [file for batch in batches for file in batch.result()]
            for row, batch in replaced.items():
                files[row] = batch.result()[0]
            ids = None
            if rows.target is not None and self._conditions is not None:
                ids = [self._conditions.target_ids[target] for target in rows.target]
            return Samples(rows, condition, label, files, confidence, attempt, ids, len(bad))

        return collect

    def resample(self, shard: int, row: int, whole: bool) -> tuple[list[bytes], slice]:
        """Sample again the batch that contains row `row` of a shard. Returns encoded images and their rows.

        Args:
            whole: sample the whole shard, because some of its images were drawn again in batches of their own.
        """
        plan = self._plan
        if whole:
            return self.sample(shard)().images, slice(0, plan.locate(shard)[2])
        rows = plan.sample_rows(shard)
        condition, _ = condition_rows(plan, rows, self._conditions)
        where = next(batch for batch in plan.batches(shard) if batch.start <= row < batch.stop)
        drawn = self._sample_batch(rows.select(where), condition[where])
        return self._start_encoding(drawn.images).result(), where

    def _draw_again(
        self, rows: Rows, condition: np.ndarray, bad: np.ndarray, confidence: np.ndarray | None
    ) -> tuple[np.ndarray, dict[int, torch.Tensor]]:
        """Draw bad images again for the same condition, with seeds that the number of the draw gives.

        All bad images of a shard share batches of the plan's size. A batch with room gets several draws of each image, of which
        the first good one counts. Plan and shard alone decide who shares a batch, and with it the bytes.

        Args:
            bad: rows whose first draw is bad.
            confidence: float32 (n,), overwritten for the rows that are drawn again.

        Returns:
            int16 (n,), the draw that is kept, and its image uint8 (C, R, R) for every row of `bad`.

        Raises:
            BadImagesError: more than a tenth of the shard is bad, or an image is still bad after ten draws.
        """
        size, count = self._plan.batch_size, len(rows)
        if len(bad) > max(1.0, _BAD_SHARE * count):
            raise BadImagesError(
                f"{len(bad)} of {count} images hold NaN or infinite values, at most {_BAD_SHARE:.0%} can be drawn again; {_WRONG}"
            )
        attempt = np.zeros(count, dtype=np.int16)
        images: dict[int, torch.Tensor] = {}
        left, done = bad, 1
        while len(left) and done < MAX_DRAWS:
            each = min(MAX_DRAWS - done, max(1, size // len(left)))
            row = np.repeat(left, each)
            number = np.tile(np.arange(done, done + each), len(left))
            for first in range(0, len(row), size):
                chosen, numbers = row[first : first + size], number[first : first + size]
                drawn = self._sample_batch(with_attempts(rows.select(chosen), numbers), condition[chosen])
                flags = np.zeros(len(chosen), dtype=bool) if drawn.bad is None else drawn.bad.cpu().numpy()
                scores = None if drawn.confidence is None else drawn.confidence.cpu().numpy()
                for position, (r, a) in enumerate(zip(chosen, numbers, strict=True)):
                    if flags[position] or int(r) in images:
                        continue
                    images[int(r)], attempt[r] = drawn.images[position].cpu().clone(), a
                    if confidence is not None and scores is not None:
                        confidence[r] = scores[position]
            left, done = np.array([r for r in left if int(r) not in images], dtype=np.int64), done + each
        if len(left):
            raise BadImagesError(
                f"{len(left)} of {count} images still hold NaN or infinite values after {MAX_DRAWS} draws each; {_WRONG}"
            )
        return attempt, images

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
        if self._on_gpu:  # copies from pinned memory do not wait for the kernels that are running
            labels, seeds = labels.pin_memory(), seeds.pin_memory()
        with torch.inference_mode():
            try:
                images, bad = sample_checked(self._generator, labels, seeds)
            except torch.OutOfMemoryError as error:
                if self._fits:  # something else has taken memory, so another attempt may succeed
                    raise
                raise UserError(
                    f"a batch of {size} samples needs more memory than the GPU has ({_first_sentence(error)}); the batch size is part of "
                    f"the plan, so use a larger GPU, or another --out with --batch-size {max(1, size // 2)}"
                ) from error
            self._fits = True
            expected = (size, self._plan.channels, self._plan.resolution, self._plan.resolution)
            if tuple(images.shape) != expected or images.dtype != torch.uint8:
                raise RuntimeError(
                    f"the generator returned {images.dtype} {tuple(images.shape)}, expected torch.uint8 {expected}"
                )
            confidence = None
            if self._classifier is not None:
                confidence = self._score(self._classifier, images, labels)[:count]
        return _Drawn(images[:count], confidence, None if bad is None else bad[:count])

    def _score(self, classifier: Classifier, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The probability that the classifier gives to the condition of each image, float32 (n,) on the classifier's device."""
        device = next(classifier.buffers()).device
        with torch.autocast(device.type, torch.bfloat16, enabled=self._scored_in_half):
            logits = classifier(images.to(device, non_blocking=True))
        probabilities = logits.float().softmax(dim=1)
        return (probabilities * labels.to(device, non_blocking=True)).sum(dim=1).float().nan_to_num(0.0)

    def _start_encoding(self, images: torch.Tensor) -> Future[list[bytes]]:
        """uint8 (n, C, R, R) -> n files."""
        copy = _HostCopy(images)
        return self._encoders.submit(lambda: [self._encode(image) for image in copy.wait()])


def _first_sentence(error: Exception) -> str:
    return str(error).split(". ")[0]


class _HostCopy:
    """A copy of images to the host on another CUDA stream. It runs beside the sampler's next kernels; only the encoder waits for it."""

    def __init__(self, images: torch.Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._host = images
        if images.device.type == "cuda":
            self._host = torch.empty(images.shape, dtype=images.dtype, pin_memory=True)
            side = _copy_stream(images.device)
            side.wait_stream(torch.cuda.current_stream(images.device))
            with torch.cuda.stream(side):
                self._host.copy_(images, non_blocking=True)
            images.record_stream(side)  # keeps the memory from being reused before the copy is done
            self._event = side.record_event()

    def wait(self) -> np.ndarray:
        """uint8 (n, C, R, R), once the copy has arrived."""
        if self._event is not None:
            self._event.synchronize()
        return self._host.numpy()


@functools.cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
