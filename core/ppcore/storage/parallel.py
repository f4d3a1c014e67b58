"""Many waits at once, results in order: what a listing of ten thousand objects needs and a local disk does not."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_order(function: Callable[[T], R], items: Iterable[T], width: int) -> Iterator[R]:
    """`map(function, items)`, up to `width` calls at once in threads; at most so many results wait to be taken.

    What a call raises is raised in its turn, and what had not begun is left undone.

    Args:
        width: 1 calls in this thread.
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
