"""All checks, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from ppcore import SHARD_FORMAT, __version__
from ppgen.doctor.finding import Finding
from ppgen.doctor.hardware import check_gpus, check_memory, check_processor, check_shared_memory
from ppgen.doctor.places import check_hub, check_out, check_source
from ppgen.doctor.software import check_compiler, check_packages, check_python


def examine(out: str) -> list[Finding]:
    """Look at everything; `out` is where shards would go, path or URL."""
    return [
        check_python(),
        *check_packages(),
        check_processor(),
        check_memory(),
        check_shared_memory(),
        *check_gpus(),
        check_compiler(),
        check_out(out),
        check_hub(),
        check_source(),
    ]


def as_json(findings: Sequence[Finding]) -> str:
    """One object: versions, the worst state, and the findings."""
    states = {finding.state for finding in findings}
    worst = next((state for state in ("broken", "limited") if state in states), "ok")
    content = {"version": __version__, "shard_format": SHARD_FORMAT, "state": worst}
    return json.dumps({**content, "findings": [asdict(finding) for finding in findings]})


def as_text(findings: Sequence[Finding]) -> str:
    """A line a finding, and two more where something is lost."""
    width = max(len(finding.check) for finding in findings)
    lines = [f"pptransfer {__version__}, shard format {SHARD_FORMAT}"]
    for finding in findings:
        lines.append(f"{finding.state:8}{finding.check:{width}}  {finding.facts}")
        if finding.lost:
            lines += [f"{'':8}{'':{width}}  {finding.lost}", f"{'':8}{'':{width}}  -> {finding.remedy}"]
    return "\n".join(lines)
