"""`--drop-below`: a sample that the source classifier does not believe in is drawn again, from a fresh seed, for the same class.

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

Sample = Callable[[Rows, np.ndarray], tuple[torch.Tensor, np.ndarray | None]]


@dataclass(frozen=True)
class Redrawn:
    """What is kept of a shard.

    Attributes:
        images: row -> uint8 (C, R, R), for the rows whose first draw is not kept.
        attempt: int16 (n,), number of the kept draw, 0 for the first.
        confidence: float32 (n,), of the kept draw.
    """

    images: dict[int, torch.Tensor]
    attempt: np.ndarray
    confidence: np.ndarray


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


def redraw(plan: Plan, rows: Rows, condition: np.ndarray, confidence: np.ndarray, sample: Sample) -> Redrawn:
    """Draw again what is below the plan's threshold, until it is not or the plan's draws are used up; then the best is kept.

    A nearly empty batch is filled with several draws of each sample, of which the first good one counts.

    Args:
        condition: float32 (n, K).
        confidence: float32 (n,), of the first draws.
        sample: m rows and float32 (m, K), m at most the batch size -> uint8 (m, C, R, R) and float32 (m,) confidence.
    """
    assert plan.redraw is not None
    below, draws, size = float(plan.redraw["below"]), int(plan.redraw["draws"]), plan.batch_size
    images: dict[int, torch.Tensor] = {}
    attempt, best = np.zeros(len(rows), dtype=np.int16), confidence.astype(np.float32)
    left, done = np.flatnonzero(best < below), 1
    while len(left) and done < draws:
        each = min(draws - done, max(1, size // len(left)))
        row = np.repeat(left, each)
        number = np.tile(np.arange(done, done + each), len(left))
        for first in range(0, len(row), size):
            chosen, numbers = row[first : first + size], number[first : first + size]
            drawn, scores = sample(with_attempts(rows.select(chosen), numbers), condition[chosen])
            assert scores is not None
            for image, score, r, a in zip(drawn.cpu(), scores, chosen, numbers, strict=True):
                if best[r] < below and score > best[r]:
                    images[int(r)], attempt[r], best[r] = image.clone(), a, score
        left, done = left[best[left] < below], done + each
    return Redrawn(images, attempt, best)
