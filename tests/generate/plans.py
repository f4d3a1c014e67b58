"""Plans made by hand."""

from __future__ import annotations

from ppgen.plan.plan import Plan, Segment


def make_plan(**changes: object) -> Plan:
    """75 samples of 3 of 10 classes in 4 shards, the last one short; `changes` replace fields."""
    fields: dict[str, object] = {
        "kind": "synth",
        "source": {"name": "dummy", "class_names": [f"c{i}" for i in range(10)]},
        "classes": (1, 4, 7),
        "seed": 5,
        "batch_size": 8,
        "samples_per_shard": 20,
        "encoding": {"format": "png", "level": 6},
        "resolution": 16,
        "channels": 1,
        "segments": (Segment(0, 75, 25),),
    }
    return Plan(**{**fields, **changes})  # type: ignore[arg-type]
