"""Whether what a generator made may be handed on, as far as the licence in the plan says so."""

from __future__ import annotations

from ppcore.errors import UserError
from ppgen.plan import MergedPlan, Plan
from ppgen.sources import redistribution


def require_redistribution(plan: Plan | MergedPlan, declared: tuple[str, ...] = ()) -> None:
    """Refuse to hand a directory on where the licence of one of its generators forbids that, or nobody knows.

    Args:
        declared: licences that the user has read and says allow it; only for those that are not known here.

    Raises:
        UserError: it is forbidden, or unknown and not declared.
    """
    plans = [part.plan for part in plan.parts] if isinstance(plan, MergedPlan) else [plan]
    for one in plans:
        name, licence = one.source["name"], str(one.source.get("licence") or "unknown")
        answer = redistribution(licence)
        if answer == "forbidden":
            raise UserError(
                f"the samples come from {name}, whose licence {licence!r} forbids handing on what is made from it; keep the directory "
                f"where it is, or generate from another source (see ppgen sources)"
            )
        if answer == "unknown" and licence not in declared:
            raise UserError(
                f"the samples come from {name}, and whether its licence {licence!r} allows handing them on is not known here; read it, "
                f"and if it does, repeat the command with --may-redistribute {licence!r}"
            )
