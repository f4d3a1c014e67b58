"""What a run would do, before it does anything: the graph, what is done already, hours and bytes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ppcore.console import format_duration
from ppflow.cli.experiment import RunOptions, open_recipe
from ppflow.jobs import FinishedJob, Graph, Job, expand, find_done
from ppflow.recipe import Rates
from ppflow.runner import Size, Sizes, check_job
from ppgen.plan import format_bytes


@dataclass
class _Line:
    """Jobs of one stage and one size."""

    stage: str
    kind: str
    size: Size
    jobs: list[Job] = field(default_factory=list)


def print_dry_run(name: str, options: RunOptions) -> None:
    """Print every stage with its size, what it needs, its cost; write nothing.

    Raises:
        UserError: the recipe or the request of a job makes no sense.
    """
    recipe, root = open_recipe(name, options)
    graph = expand(recipe, root)
    for job in graph.jobs.values():
        check_job(job)
    done = find_done(graph)
    lines = _lines(graph)
    cost = _Cost(recipe.rates, graph, done, lines)
    points = f" at {len(recipe.cells)} points of the grid" if len(recipe.cells) > 1 else ""
    print(
        f"{recipe.title}: {len(recipe.rows)} rows{points}, {len(recipe.seeds)} seed{'s' if len(recipe.seeds) > 1 else ''}; "
        f"{len(graph.jobs)} jobs, {len(done)} of them done, into {root}"
    )
    for line in lines:
        print(_line_text(line, graph, done, cost))
    for text in cost.summary(len(graph.jobs) - len(done)):
        print(text)
    print("nothing was written; the same command without --dry-run runs it")


def _lines(graph: Graph) -> list[_Line]:
    sizes = Sizes(graph)
    found: dict[tuple[str, Size], _Line] = {}
    for job in graph.jobs.values():
        size = sizes.of(job)
        line = found.setdefault((job.stage, size), _Line(job.stage, job.kind, size))
        line.jobs.append(job)
    return list(found.values())


def _line_text(line: _Line, graph: Graph, done: Mapping[str, FinishedJob], cost: _Cost) -> str:
    count, there = len(line.jobs), sum(job.digest in done for job in line.jobs)
    needs = dict.fromkeys(graph.jobs[need].stage for job in line.jobs for need in job.needs)
    many = f"{count} x " if count > 1 else ""
    text = f"  {line.stage} ({line.kind}): {many}{line.size.text}"
    text += f"; needs {', '.join(needs)}" if needs else ""
    resources = line.jobs[0].resources
    if resources.gpus or resources.cpus != 1:
        text += f"; {resources.cpus:g} CPUs, {resources.gpus:g} GPUs each"
    if there:
        text += f"; {'done' if there == count else f'{there} done'}"
    if there < count:
        text += f"; {cost.text(line)}"
    return text


class _Cost:
    """Seconds of the jobs that are left: by finished jobs of the same stage, else by the recipe's rates."""

    def __init__(
        self, rates: Rates, graph: Graph, done: Mapping[str, FinishedJob], lines: Iterable[_Line]
    ) -> None:
        self._rates, self._done, self._graph = rates, done, graph
        self._lines = list(lines)
        self._paces = self._measured()

    def seconds(self, line: _Line) -> float | None:
        """Of one job."""
        if line.kind in ("refit", "train", "synth", "pseudo") and line.size.images:
            pace = self._paces.get(line.stage) or self._assumed(line.kind)
            return None if pace is None else line.size.images * pace
        return 0.0 if line.kind == "export" else None

    def text(self, line: _Line) -> str:
        left = [job for job in line.jobs if job.digest not in self._done]
        seconds = self.seconds(line)
        parts = ["hours not known"] if seconds is None else [f"{_hours(seconds * len(left))}"]
        if line.size.bytes is not None:
            parts.append(format_bytes(line.size.bytes * len(left)))
        return ", ".join(parts)

    def summary(self, left: int) -> list[str]:
        """Totals over what is left."""
        if not left:
            return ["nothing is left to do"]
        total, unknown, size = 0.0, 0, 0
        for line in self._lines:
            jobs = sum(job.digest not in self._done for job in line.jobs)
            seconds = self.seconds(line)
            unknown += jobs if seconds is None else 0
            total += jobs * (seconds or 0.0)
            size += jobs * (line.size.bytes or 0)
        text = f"{left} jobs are left: about {_hours(total)} of one worker, {format_bytes(size)} of images"
        if unknown:
            text += f"; without {unknown} jobs whose time nobody knows yet"
        told = [text]
        if self._rates.source and total:
            told.append(f"rates: {self._rates.source}")
        return told

    def _measured(self) -> dict[str, float]:
        """Stage -> seconds an image, of its finished jobs."""
        seconds: dict[str, float] = defaultdict(float)
        images: dict[str, int] = defaultdict(int)
        for line in self._lines:
            for job in line.jobs:
                found = self._done.get(job.digest)
                if found is not None and found.result.seconds and line.size.images:
                    seconds[line.stage] += found.result.seconds
                    images[line.stage] += line.size.images
        return {stage: seconds[stage] / images[stage] for stage in images}

    def _assumed(self, kind: str) -> float | None:
        rate = self._rates.images_per_s if kind in ("synth", "pseudo") else self._rates.train_images_per_s
        return None if not rate else 1 / rate


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} hours" if seconds >= 3600 else format_duration(seconds)
