"""A task with nothing left open: given, stored with the run, measured before, or measured now."""

from __future__ import annotations

from dataclasses import replace

from pptrain.engine.choice.cache import Measured, address, keep, read
from pptrain.engine.choice.numerics import Numerics, candidates, is_open
from pptrain.engine.choice.trial import ROUNDS, measure
from pptrain.engine.process_group import ProcessGroup
from pptrain.engine.task import Task

_WORTH = 10  # a trial may cost a tenth of the run's steps at most
_NO_GRAPHS = "no CUDA graphs: they need one process on a CUDA device, optim.accumulate 1 and no loop.compile"
_LONG_S = 1800.0  # compiling takes minutes: only a run this long can win them back


def settle(task: Task, group: ProcessGroup) -> Task:
    """The task with its precision, memory layout and compilation chosen, and a line for the user where there was a choice.

    What is open is measured in under 5 s, on copies; what was measured before on this machine for the same network, shapes, method and
    versions is taken from the user's cache. The first process decides for all. A run that takes less than ten times the steps of
    the trial measures nothing and takes float32 (bf16 on CUDA), channels last. On CUDA, graphs are tried where they can be, and
    compilation in runs of half an hour and more, where it takes the minutes that it takes. Graphs that are asked for where there can be
    none are left off, so that the configuration of a run on a GPU can be repeated anywhere.
    """
    loop, alone = task.config.loop, group.world_size == 1 and task.config.optim.accumulate == 1
    can_graph = group.device.type == "cuda" and alone and not loop.compile
    if loop.graphs and not can_graph:
        without = replace(task.config, loop=replace(loop, graphs=False))
        task = replace(task, config=without, notes=[*task.notes, _NO_GRAPHS])
    if not is_open(task.config):
        return task
    may_graph = can_graph and loop.graphs is None
    tried = candidates(task.config, task.net, group.device)
    steps, first = task.config.optim.steps, tried[0]
    may_compile = loop.compile is None and not loop.graphs and group.device.type == "cuda"
    if len(tried) == 1 and not may_compile and not may_graph:
        return _settled(task, group, first, [])
    if steps < _WORTH * len(tried) * (ROUNDS + 1):
        return _settled(task, group, first, [f"too short a run to measure what is faster: {first}"])
    found, lines = _find(task, group, tried)
    if found is None:
        return _settled(task, group, first, [f"steps take too long to measure what is faster: {first}"])
    numerics = found.numerics
    if may_graph:
        graphed, more = _find(task, group, [numerics, replace(numerics, graphs=True)])
        numerics = graphed.numerics if graphed is not None else numerics
        lines += more
    if may_compile and steps * found.seconds > _LONG_S:
        compiled, more = _find(task, group, [numerics, replace(numerics, compile=True, graphs=False)])
        numerics = compiled.numerics if compiled is not None else numerics
        lines += more
    return _settled(task, group, numerics, lines)


def _find(task: Task, group: ProcessGroup, tried: list[Numerics]) -> tuple[Measured | None, list[str]]:
    """(the choice kept from before, or measured now; lines for the user)."""
    key = address(task, group.device, tried, group.world_size)
    found = group.broadcast(read(key) if group.is_main else None)
    when = "measured before"
    if found is None:
        when = "measured"
        found = measure(task, group, tried)  # all at once, as they will train
        if found is not None and group.is_main:
            found = keep(key, found)
        found = group.broadcast(found)
    if found is None or len(tried) == 1:
        return found, []
    rates = "; ".join(f"{name} {rate:.3g}" for name, rate in found.rates.items())
    many = f"steps/s of {found.batch} labelled images"
    return found, [
        f"{when}, {many}: {rates} -> {found.numerics} (--amp, loop.channels_last and loop.graphs decide otherwise)"
    ]


def _settled(task: Task, group: ProcessGroup, numerics: Numerics, lines: list[str]) -> Task:
    return replace(
        task, config=numerics.into(task.config), notes=[*task.notes, *lines] if group.is_main else task.notes
    )
