"""Batches on their way to a GPU while the one before is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from pptrain.data.feed import RawBatch

RawPair = tuple[RawBatch, RawBatch | None]
"""A labelled batch and its unlabelled one."""


def prefetched(batches: Iterator[RawPair], device: torch.device) -> Iterator[RawPair]:
    """The same batches; for a GPU each is copied from pinned memory, on a stream of its own, during the step before its own."""
    if device.type != "cuda":
        return batches
    side = torch.cuda.Stream(device)

    def send(pair: RawPair) -> RawPair:
        with torch.cuda.stream(side):
            return _each(pair, lambda t: t if t.is_cuda else t.pin_memory().to(device, non_blocking=True))

    def arrive(pair: RawPair) -> None:
        now = torch.cuda.current_stream(device)
        now.wait_stream(side)
        for part in pair:
            for tensor in part or ():
                tensor.record_stream(now)  # its memory is not another's before this stream is done

    return one_ahead(batches, send, arrive)


def one_ahead(
    batches: Iterator[RawPair], send: Callable[[RawPair], RawPair], arrive: Callable[[RawPair], None]
) -> Iterator[RawPair]:
    """Every batch is sent before the one ahead of it is handed out, and has arrived when it is handed out itself."""
    sent = None
    for pair in batches:
        if sent is not None:
            arrive(sent)
        ready, sent = sent, send(pair)
        if ready is not None:
            yield ready
    if sent is not None:
        arrive(sent)
        yield sent


def _each(pair: RawPair, function: Callable[[torch.Tensor], torch.Tensor]) -> RawPair:
    labeled, unlabeled = (part and RawBatch(*map(function, part)) for part in pair)
    assert labeled is not None
    return labeled, unlabeled
