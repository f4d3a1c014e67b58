"""Pseudo conditional sampling (PCS): the source classifier's soft labels of target images condition the generator.

x = G_s(z, C_s(x_t)), the paper's equation for pseudo samples, with `x_t` a target image.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ppcore.classifiers import Classifier, soft_labels
from ppcore.errors import UserError
from ppcore.seeds import derive, sample_seed
from ppcore.shards import CONDITION_SCHEMA
from ppcore.storage import read_table
from ppcore.targets import ImageSet, decode_ahead
from ppgen.plan.plan import Plan, Rows
from ppgen.sources import require_defined

_BATCH = 64


@dataclass(frozen=True)
class Conditions:
    """The soft labels of the target images used.

    Attributes:
        target_ids: N names.
        soft: float32 (N, K), rows sum to 1.
    """

    target_ids: list[str]
    soft: np.ndarray

    def to_parquet(self) -> bytes:
        """Content of conditions.parquet; equal conditions give equal bytes."""
        table = pa.table([pa.array(self.target_ids), pa.array(list(self.soft))], schema=CONDITION_SCHEMA)
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        return buffer.getvalue()

    @classmethod
    def from_parquet(cls, data: bytes, plan: Plan) -> Conditions:
        """Read conditions.parquet and check it against the plan.

        Raises:
            UserError: not the table the plan was made with.
        """
        assert plan.condition is not None
        if hashlib.sha256(data).hexdigest() != plan.condition["sha256"]:
            raise UserError(
                "conditions.parquet is not the table this plan was made with (its sha256 differs); restore it or start a new "
                "directory"
            )
        try:
            table = read_table(data, None, row_bytes=8 * plan.num_classes)
        except ValueError as error:
            raise UserError(
                f"conditions.parquet is not a condition table ({error}); restore it or start a new directory"
            ) from error
        soft = np.stack(table.column("soft").to_numpy()).astype(np.float32)
        return cls(table.column("target_id").to_pylist(), soft)


def conditions_sha256(conditions: Conditions) -> str:
    """The checksum of the condition table that the plan records."""
    return hashlib.sha256(conditions.to_parquet()).hexdigest()


def measure(
    images: ImageSet,
    classifier: Classifier,
    *,
    temperature: float | None,
    top_k: int | None,
    norm_share: Callable[[torch.Tensor], float | None] | None = None,
) -> tuple[Conditions, float, str]:
    """(soft labels of every image, their temperature, the sha256 of the images' names and pixels).

    Args:
        images: N target images.
        classifier: the source classifier.
        temperature: None chooses it by :func:`sharp_temperature`.
        norm_share: of a generator that mixes the class embeddings of soft labels: the norm that the mixtures have, as a share.

    Raises:
        UserError: a damaged image, or one whose soft label is not defined.
    """
    digest = hashlib.sha256()
    batches = []
    whole, device = classifier.whole(), next(classifier.buffers()).device
    parts = [range(first, min(first + _BATCH, len(images))) for first in range(0, len(images), _BATCH)]
    for part, pixels in zip(parts, decode_ahead(images, parts, classifier.spec.preparation), strict=True):
        digest.update("\0".join(images.select(part).stems).encode())
        digest.update(pixels.numpy().tobytes())
        with torch.inference_mode():
            logits = whole(pixels.to(device)).cpu()
        require_defined(logits)
        batches.append(logits)
    logits = torch.cat(batches)
    if temperature is None:
        temperature = sharp_temperature(logits)
    soft = soft_labels(logits, temperature, top_k).float().numpy()
    line = describe_sharpness(logits, temperature, soft)
    share = None if norm_share is None else norm_share(torch.from_numpy(soft))
    if share is not None:
        line += f"; their mixed embeddings have {share:.2f} of the norm of the class embeddings"
    print(line, flush=True)
    return Conditions(list(images.ids), soft), temperature, digest.hexdigest()


MOST_CLASSES = 16.0
"""Effective classes of a soft label above which it selects too little: most of what is drawn has nothing to do with the image."""


def effective_classes(soft: np.ndarray | torch.Tensor) -> float:
    """exp of the mean entropy of soft labels (N, K): K for uniform rows, 1 for one-hot rows."""
    rows = torch.as_tensor(soft, dtype=torch.float64)
    return float(torch.special.entr(rows).sum(1).mean().exp())


def sharp_temperature(logits: torch.Tensor) -> float:
    """The largest of the temperatures 1, 0.9, ..., 0.1 at which soft labels have at most 16 effective classes (logits: (N, K)).

    Classifiers that were trained with label smoothing give nearly flat soft labels, and a condition drawn from these is nearly random.
    The published method takes temperature 1.
    """
    steps = [round(1.0 - 0.1 * step, 1) for step in range(10)]
    fitting = (t for t in steps if effective_classes(soft_labels(logits, t, None)) <= MOST_CLASSES)
    return next(fitting, steps[-1])


def describe_sharpness(logits: torch.Tensor, temperature: float, soft: np.ndarray) -> str:
    """One line: how many classes share a soft label, before and after it was sharpened, and how many carry 90 % of all samples."""
    shares = np.sort(soft.mean(axis=0, dtype=np.float64))[::-1]
    carry = int(np.searchsorted(np.cumsum(shares), 0.9)) + 1
    line = f"soft labels: {effective_classes(soft):.1f} effective classes (exp of the mean entropy) at temperature {temperature:g}"
    if temperature != 1:
        line += f", {effective_classes(soft_labels(logits, 1.0, None)):.1f} at 1"
    return f"{line}; {carry} of {soft.shape[1]} classes carry 90 %"


def condition_rows(
    plan: Plan, rows: Rows, conditions: Conditions | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """The conditions of a shard's rows.

    Returns:
        float32 (n, K) conditions, and the int64 (n,) source classes where every row is one-hot, else None.
    """
    if rows.target is None:
        assert rows.label is not None
        return one_hot(rows.label, plan.num_classes), rows.label
    assert plan.condition is not None
    assert conditions is not None
    mode = plan.condition["mode"]
    soft = conditions.soft[rows.target]  # (n, K)
    if mode == "soft":
        return soft, None
    uniform = _uniform_numbers(derive(plan.seed, "draw"), rows.index)
    if mode == "uniform":
        drawn = (uniform * plan.num_classes).astype(np.int64)
    else:
        drawn = _draw(soft, uniform)
    return one_hot(drawn, plan.num_classes), drawn


def one_hot(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """float32 (n, K)."""
    rows = np.zeros((len(labels), num_classes), dtype=np.float32)
    rows[np.arange(len(labels)), labels] = 1.0
    return rows


def _draw(soft: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """One class for each row, y ~ p, by inversion of the cumulative distribution: int64 (n,)."""
    cumulative = np.cumsum(soft.astype(np.float64), axis=1)  # (n, K)
    below = cumulative <= uniform[:, None] * cumulative[:, -1:]
    return below.sum(axis=1).astype(np.int64)


def _uniform_numbers(seed: int, index: np.ndarray) -> np.ndarray:
    """One number in [0, 1) for each sample index, which depends on seed and index only: float64 (n,)."""
    return np.array([(sample_seed(seed, int(i)) >> 10) / 2.0**53 for i in index])
