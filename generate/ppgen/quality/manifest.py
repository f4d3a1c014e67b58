"""The figures that the manifest alone tells, of every sample of a directory."""

from __future__ import annotations

from typing import Any

import numpy as np

from ppcore.shards import MANIFEST, ShardSet
from ppcore.storage import read_table
from ppgen.quality.duplicates import digest_prefixes, repeated
from ppgen.quality.summaries import histogram


def manifest_figures(shards: ShardSet) -> dict[str, Any]:
    """Classes, entropy of the conditions, exact duplicates, redraws."""
    columns = ["class", "entropy", "sha256", "attempt", "confidence"]
    with shards.store.open(MANIFEST) as handle:
        table = read_table(handle, shards.samples, columns=columns)
    figures: dict[str, Any] = {"samples": len(table)}
    labels = table.column("class")
    if not labels.null_count:
        counts = np.bincount(labels.to_numpy(), minlength=shards.num_classes)
        present = np.flatnonzero(counts)
        figures["per_class"] = {shards.class_names[c]: int(counts[c]) for c in present}
        figures["classes"] = {
            "present": len(present),
            "fewest": int(counts[present].min()),
            "most": int(counts.max()),
        }
    else:
        spread = table.column("entropy").to_numpy()
        figures["condition_entropy"] = histogram(spread, 0.0, float(np.log(shards.num_classes)))
        figures["effective_classes"] = float(np.exp(spread).mean())
    figures["exact_duplicates"] = repeated(digest_prefixes(table.column("sha256").to_pylist()))
    rule = shards.plan.get("redraw")
    if rule is not None:
        figures["redraw"] = {
            **rule,
            "redrawn": int((table.column("attempt").to_numpy() > 0).sum()),
            "kept_below": int((table.column("confidence").to_numpy() < rule["below"]).sum()),
        }
    return figures
