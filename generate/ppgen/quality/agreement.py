"""Whether the source classifier sees in a sample what it was made for."""

from __future__ import annotations

from typing import Any

import numpy as np

from ppgen.quality.features import SampleSet
from ppgen.quality.summaries import histogram, summary
from ppgen.shards import entropy


def measure_agreement(samples: SampleSet, names: list[str]) -> dict[str, Any]:
    """What the source classifier makes of samples, against what they were conditioned on.

    One-hot conditions: share of samples whose most probable class is the condition. Soft ones: expected probability
    sum_k c_k p_k, beside the sum_k c_k^2 that an exact echo of the condition would get, and KL(c || p) in nats.
    """
    assert samples.probabilities is not None
    assert samples.condition is not None
    p, c = samples.probabilities.astype(np.float64), samples.condition.astype(np.float64)
    top, wanted = p.argmax(1), c.argmax(1)
    same, confidence = top == wanted, (p * c).sum(1)
    figures: dict[str, Any] = {
        "soft": bool((c.max(1) < 1).any()),
        "agreement": float(same.mean()),
        "confidence": {**summary(confidence), "histogram": histogram(confidence, 0.0, 1.0)},
        "entropy": {
            **summary(entropy(samples.probabilities)),
            "histogram": histogram(entropy(samples.probabilities), 0.0, float(np.log(p.shape[1]))),
        },
        "per_class": {
            names[k]: {"looked_at": int((wanted == k).sum()), "agreement": float(same[wanted == k].mean())}
            for k in np.unique(wanted)
        },
    }
    if figures["soft"]:
        ratio = np.log(c.clip(min=1e-12) / p.clip(min=1e-12))
        figures["echo"] = float((c * c).sum(1).mean())
        figures["kl"] = summary((c * ratio).sum(1))
    return figures
