"""What is drawn again, from a fresh seed and for the same condition: a sample that the source classifier does not believe in
(`--drop-below`), and one that is no image because the network put out a NaN or an infinity.

Rejected samples of a shard are pooled into full batches, so that a forward pass always has the plan's shape; which samples
share a batch follows from plan and shard alone, and so do the bytes, whoever makes the shard.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from ppcore.seeds import derive
from ppgen.plan import Plan, Rows

BAD = -1.0  # merit of what is no image, below every confidence
BAD_SHARE = 0.1  # of a shard's first draws may be no images; with more the model or its GPU is sick, and no draw helps
_DRAWS = 10  # of a bad sample, where the plan keeps all good ones

Sample = Callable[[Rows, np.ndarray], tuple[torch.Tensor, np.ndarray]]


class BadImagesError(RuntimeError):
    """A shard has more images with NaN or infinite values than can be drawn again; another GPU may do better."""


@dataclass(frozen=True)
class Redrawn:
    """What is kept of a shard.

    Attributes:
        images: row -> uint8 (C, R, R), for the rows whose first draw is not kept.
        attempt: int16 (n,), number of the kept draw, 0 for the first.
        merit: float32 (n,), of the kept draw.
    """

    images: dict[int, torch.Tensor]
    attempt: np.ndarray
    merit: np.ndarray


def most_draws(plan: Plan) -> int:
    """Draws that a sample of the plan can take, the first included."""
    return _DRAWS if plan.redraw is None else int(plan.redraw["draws"])


def with_attempts(rows: Rows, attempt: np.ndarray) -> Rows:
    """The rows with the seeds of the given draws, int (n,); draw 0 has the sample's own seed."""
    seeds = [
        derive(int(s), "attempt", int(a)) if a else int(s) for s, a in zip(rows.seed, attempt, strict=True)
    ]
    return replace(rows, seed=np.array(seeds, dtype=np.int64))


def count_redrawn(
    plan: Plan, attempt: np.ndarray | None, confidence: np.ndarray | None
) -> tuple[int, int] | tuple[None, None]:
    """For the commit record: samples replaced, and samples kept though still below the threshold."""
    if plan.redraw is None or attempt is None or confidence is None:
        return None, None
    return int((attempt > 0).sum()), int((confidence < float(plan.redraw["below"])).sum())


def redraw(plan: Plan, rows: Rows, condition: np.ndarray, merit: np.ndarray, sample: Sample) -> Redrawn:
    """Draw again what is below the plan's threshold, until it is not or the draws are used up; then the best is kept.

    A nearly empty batch is filled with several draws of each sample, of which the first good one counts. A plan without a threshold
    draws again what is :data:`BAD`.

    Args:
        condition: float32 (n, K).
        merit: float32 (n,), of the first draws: the confidence, or :data:`BAD`.
        sample: m rows and float32 (m, K), m at most the batch size -> uint8 (m, C, R, R) and float32 (m,) merit.

    Raises:
        BadImagesError: more than :data:`BAD_SHARE` of the first draws, or any sample after all its draws, is no image.
    """
    below, draws, size = _threshold(plan), most_draws(plan), plan.batch_size
    _require_few(int((merit < 0).sum()), len(rows))
    images: dict[int, torch.Tensor] = {}
    attempt, best = np.zeros(len(rows), dtype=np.int16), merit.astype(np.float32)
    left, done = np.flatnonzero(best < below), 1
    while len(left) and done < draws:
        each = min(draws - done, max(1, size // len(left)))
        row = np.repeat(left, each)
        number = np.tile(np.arange(done, done + each), len(left))
        for first in range(0, len(row), size):
            chosen, numbers = row[first : first + size], number[first : first + size]
            drawn, scores = sample(with_attempts(rows.select(chosen), numbers), condition[chosen])
            for image, score, r, a in zip(drawn.cpu(), scores, chosen, numbers, strict=True):
                if best[r] < below and score > best[r]:
                    images[int(r)], attempt[r], best[r] = image.clone(), a, score
        left, done = left[best[left] < below], done + each
    hopeless = int((best < 0).sum())
    if hopeless:
        raise BadImagesError(
            f"{hopeless} of {len(rows)} images still hold NaN or infinite values after {draws} draws each; the source or this device "
            "computes wrongly (try another dtype)"
        )
    return Redrawn(images, attempt, best)


def _threshold(plan: Plan) -> float:
    return 0.0 if plan.redraw is None else float(plan.redraw["below"])


def _require_few(bad: int, count: int) -> None:
    if bad > max(1.0, BAD_SHARE * count):
        raise BadImagesError(
            f"{bad} of {count} images hold NaN or infinite values, at most {BAD_SHARE:.0%} can be drawn again; the source or this "
            "device computes wrongly (try another dtype)"
        )
