"""What became of the jobs of an experiment."""

from __future__ import annotations

from dataclasses import dataclass, field

from ppflow.jobs.graph import Graph, Job
from ppflow.jobs.records import StageResult, cached_result


@dataclass(frozen=True)
class FinishedJob:
    """What a job came to; `fresh` when it was done in this run and not found done."""

    job: Job
    result: StageResult
    fresh: bool = True


@dataclass(frozen=True)
class FailedJob:
    """Why there is no result: one sentence. `refused` where the request is wrong, and not what was done with it."""

    job: Job
    reason: str
    refused: bool = False


@dataclass(frozen=True)
class Outcomes:
    """What became of every job, by digest: done, failed, or left out because something it needs failed."""

    done: dict[str, FinishedJob] = field(default_factory=dict)
    failed: dict[str, FailedJob] = field(default_factory=dict)
    skipped: dict[str, Job] = field(default_factory=dict)


def find_done(graph: Graph) -> dict[str, FinishedJob]:
    """The jobs whose results are there already."""
    found = {digest: (job, cached_result(job)) for digest, job in graph.jobs.items()}
    return {
        d: FinishedJob(job, result, fresh=False) for d, (job, result) in found.items() if result is not None
    }
