"""Calls in several threads with their results in order, for object stores, where every call waits for the network."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_order(function: Callable[[T], R], items: Iterable[T], width: int) -> Iterator[R]:
    """Like `map(function, items)`, with up to `width` calls at once in threads and at most `width` results kept.

    `Executor.map` would submit all items at once. If a call raises, the exception is raised at that call's place in the order and
    calls that have not begun are cancelled.

    Args:
        width: number of threads; 1 calls the function in this thread.
    """
    if width <= 1:
        yield from map(function, items)
        return
    pool, waiting = ThreadPoolExecutor(width, "in order"), deque[Future[R]]()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= width:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
