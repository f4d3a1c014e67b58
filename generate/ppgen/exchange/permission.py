"""Whether the licence of a generator allows sharing its samples."""

from __future__ import annotations

from ppcore.errors import UserError
from ppgen.plan import Plan
from ppgen.sources import redistribution


def require_redistribution(plan: Plan, declared: tuple[str, ...] = ()) -> None:
    """Refuse to share a directory if the licence of its generator forbids that or is not known.

    Args:
        declared: licences that the user has read and says allow it; only for those that are not known here.

    Raises:
        UserError: it is forbidden, or unknown and not declared.
    """
    name, licence = plan.source["name"], str(plan.source.get("licence") or "unknown")
    answer = redistribution(licence)
    if answer == "forbidden":
        raise UserError(
            f"the samples come from {name}, whose licence {licence!r} forbids sharing what is made with it; keep the directory where it "
            f"is, or generate from another source (see ppgen sources)"
        )
    if answer == "unknown" and licence not in declared:
        raise UserError(
            f"the samples come from {name}, and ppgen does not know whether its licence {licence!r} allows sharing them; read the "
            f"licence, and if it does, repeat the command with --may-redistribute {licence!r}"
        )
