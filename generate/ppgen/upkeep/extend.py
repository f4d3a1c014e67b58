"""Adding samples to an existing directory: a new segment of its plan. Existing samples do not change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ppcore.errors import UserError
from ppcore.shards import CONDITIONS, PLAN
from ppcore.storage import Store
from ppgen.plan import Plan, Segment, encode_plan
from ppgen.shards import exclusive, read_plan


def grow_plan(plan: Plan, per_class: int | None, per_image: int | None, count: int | None) -> Plan:
    """The plan with the new totals, or the same plan if it has them already.

    Args:
        per_class: synth: samples of every class.
        per_image, count: pseudo: samples for every target image, or samples in all.

    Raises:
        UserError: not exactly one total, one that does not fit the kind, or fewer samples than are planned already.
    """
    if plan.kind == "synth":
        if per_class is None or per_image is not None or count is not None:
            raise UserError("this is a synth directory; give --per-class with the new total of every class")
        return _grow_synth(plan, per_class)
    if per_class is not None or (per_image is None) == (count is None):
        raise UserError("this is a pseudo directory; give --per-image or --count with the new total")
    assert plan.target is not None
    total = count if count is not None else int(per_image or 0) * int(plan.target["images"])
    if total < plan.samples:
        raise UserError(
            f"{total} samples were asked for and {plan.samples} are planned already; give a larger total"
        )
    return _with(plan, Segment(plan.samples, total - plan.samples))


def _grow_synth(plan: Plan, per_class: int) -> Plan:
    missing = per_class - np.broadcast_to(np.array(plan.per_class, dtype=np.int64), len(plan.classes))
    if missing.min() < 0:
        raise UserError(
            f"--per-class {per_class} is less than the {int(per_class - missing.min())} samples a class planned already; give a "
            f"larger total"
        )
    equal = missing.min() == missing.max()
    each = int(missing[0]) if equal else tuple(int(m) for m in missing)
    return _with(plan, Segment(plan.samples, int(missing.sum()), each))


def _with(plan: Plan, segment: Segment) -> Plan:
    return replace(plan, segments=(*plan.segments, segment)) if segment.samples else plan


def replace_plan(store: Store, plan: Plan, grown: Plan) -> None:
    """Replace the stored plan by `grown`, atomically and with the directory locked.

    Raises:
        UserError: another ppgen holds the directory, it cannot be written, has lost its conditions, or changed since `plan` was read.
    """
    if plan.kind == "pseudo" and not store.exists(CONDITIONS):
        raise UserError(
            f"{store} has lost its {CONDITIONS}; repeat the ppgen pseudo command that made it, then extend it"
        )
    with exclusive(store):
        if read_plan(store) != plan:
            raise UserError(f"another ppgen has changed {store}; repeat the command")
        try:
            store.write_atomic(PLAN, encode_plan(grown))
        except OSError as error:
            raise UserError(
                f"cannot write to {store} ({error.strerror or error}); make it writable"
            ) from error
