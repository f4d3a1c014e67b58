"""What an experiment cost and what it was made from: time and images of every stage, plans, licences, commits."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ppcore import __version__
from ppcore.console import format_duration
from ppcore.page import table
from ppcore.shards import PLAN
from ppcore.storage import read_json
from ppflow.jobs import Graph, Outcomes, code_version

_LIBRARIES = ("torch", "torchvision", "numpy", "pyarrow", "diffusers")


def costs(graph: Graph, outcomes: Outcomes) -> Iterator[str]:
    """A line a stage: how often it was run, what it made, how long it took in all."""
    lines: dict[tuple[str, str], list[float]] = {}
    for digest, done in outcomes.done.items():
        job, result = graph.jobs[digest], done.result
        line = lines.setdefault((job.stage, job.kind), [0, 0, 0, 0.0])
        for position, amount in enumerate((1, result.samples or 0, result.steps or 0, result.seconds or 0.0)):
            line[position] += amount
    yield '<h2 id="cost">Time and images of every stage</h2>'
    head = ["stage", "kind", "runs", "images made", "training steps", "time of one process"]
    rows = [
        [
            stage,
            kind,
            f"{runs:.0f}",
            f"{made:,.0f}" if made else "",
            f"{steps:,.0f}" if steps else "",
            format_duration(took),
        ]
        for (stage, kind), (runs, made, steps, took) in lines.items()
    ]
    totals = [sum(line[i] for line in lines.values()) for i in range(4)]
    rows.append(
        ["all", "", f"{totals[0]:.0f}", f"{totals[1]:,.0f}", f"{totals[2]:,.0f}", format_duration(totals[3])]
    )
    yield table(head, rows)


def provenance(graph: Graph, outcomes: Outcomes) -> Iterator[str]:
    """Plans of the generated sets with their sources' licences, and the code that ran."""
    yield '<h2 id="provenance">Provenance</h2>'
    lines = []
    for digest in outcomes.done:
        job = graph.jobs[digest]
        if job.kind in ("synth", "pseudo"):
            plan: dict[str, Any] = read_json(job.folder / PLAN, dict)
            lines.append([job.label, *_plan_cells(plan)])
    if lines:
        yield table(["generated set", "plan", "source", "licence", "commit", "target"], lines)
    kinds = dict.fromkeys(graph.jobs[digest].kind for digest in outcomes.done)
    facts = [
        ("program", f"pptransfer {__version__}{_commit()}"),
        *((f"code of {kind} stages", code_version(kind)[:12]) for kind in kinds),
        ("libraries", ", ".join(f"{name} {found}" for name in _LIBRARIES if (found := _version(name)))),
        ("machine", f"{platform.machine()}, Python {platform.python_version()}"),
    ]
    yield table(["what", "version"], facts)


def _plan_cells(plan: Mapping[str, Any]) -> list[str]:
    source, target = plan.get("source", {}), plan.get("target") or {}
    return [
        str(plan.get("fingerprint", ""))[:12],
        str(source.get("name", "")),
        str(source.get("licence", "")),
        str(source.get("revision") or "")[:12],
        str(target.get("name", "")),
    ]


def _version(name: str) -> str:
    try:
        return version(name)
    except ImportError:  # PackageNotFoundError is one
        return ""


def _commit() -> str:
    """`, commit 0123456789ab` where the program runs from a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return f", commit {done.stdout.strip()}"
