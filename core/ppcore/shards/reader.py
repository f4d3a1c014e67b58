"""The reading side of a shard directory. The writing side is `ppgen.shards`."""

from __future__ import annotations

import io
import operator
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, SupportsIndex

import numpy as np

from ppcore.errors import UserError
from ppcore.shards.layout import (
    FORMAT,
    INDEX,
    KINDS,
    PLAN,
    VERSION,
    Index,
    PlanHeader,
    ShardRef,
    index_page,
    meta_path,
    most_bytes,
    sample_key,
)
from ppcore.shards.tars import TAR_BLOCK, RawSample, iter_tar
from ppcore.storage import MAX_JSON_BYTES, Store, decode, read_table


def read_index(store: Store) -> list[ShardRef]:
    """All shards of index.json and its pages, in order.

    Raises:
        FileNotFoundError: there is no index.json, because the directory is not finished.
        ValueError: index.json or one of its pages is damaged, or a page is missing or not as index.json describes it.
    """
    index = _read_index_file(store, INDEX)
    shards = list(index.shardlist)
    for number, page in enumerate(index.pages):
        if page.path != index_page(number):
            raise ValueError(
                f"page {number} of the index is called {page.path!r}, expected {index_page(number)!r}"
            )
        try:
            listed = _read_index_file(store, page.path).shardlist
        except FileNotFoundError:
            raise ValueError(f"{page.path} is missing") from None
        if len(listed) != page.shards:
            raise ValueError(f"{page.path} lists {len(listed)} shards, {INDEX} says {page.shards}")
        shards += listed
    return shards


def count_indexed(store: Store) -> int:
    """The number of shards that index.json lists; its pages are not read. Raises FileNotFoundError, ValueError."""
    index = _read_index_file(store, INDEX)
    return len(index.shardlist) + sum(page.shards for page in index.pages)


def _read_index_file(store: Store, name: str) -> Index:
    index = decode(Index, store.read(name, MAX_JSON_BYTES))
    if not index.shardlist and not index.pages:
        raise ValueError(f"{name} lists no shards")
    return index


@dataclass(frozen=True)
class ShardSet:
    """A finished shard directory.

    Attributes:
        kind: "synth" (labelled with source classes) or "pseudo" (unlabelled, conditioned on target images).
        class_names: names of the K source classes.
        classes: source classes that occur, ascending; the labels of a trainer are positions in this list.
        plan: the content of plan.json.
    """

    store: Store
    plan: dict[str, Any]
    kind: str
    class_names: list[str]
    classes: list[int]
    resolution: int
    channels: int
    shards: list[ShardRef] = field(repr=False)
    _offsets: dict[int, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum([shard.samples for shard in self.shards])

    @cached_property
    def samples(self) -> int:
        """Number of samples."""
        return int(self._ends[-1])

    @property
    def num_classes(self) -> int:
        """K, the size of the source's label space."""
        return len(self.class_names)

    @property
    def fingerprint(self) -> str:
        return str(self.plan["fingerprint"])

    @property
    def urls(self) -> list[str]:
        """Paths or URLs of all shards, as WebDataset takes them."""
        return [self.store.path(shard.path) for shard in self.shards]

    @classmethod
    def open(cls, root: str, *, kind: str | None = None) -> ShardSet:
        """Read plan.json and index.json.

        Args:
            root: local directory or URL.
            kind: refuse a directory of the other kind.

        Raises:
            UserError: no shard directory, unfinished, damaged, or of the wrong kind.
        """
        store = Store(root)
        data = _read(
            store,
            PLAN,
            f"{root} is no shard directory (it has no plan.json); make one with ppgen synth or ppgen pseudo",
        )
        try:
            plan = decode(dict[str, Any], data)
            _require_readable(plan, root, kind)
            header = decode(PlanHeader, data)
            shards = read_index(store)
        except FileNotFoundError as error:
            raise UserError(
                f"{root} is not finished (it has no index.json); run the same ppgen command again to resume it"
            ) from error
        except ValueError as error:
            raise UserError(
                f"{root} has a damaged plan.json or index.json ({error}); run ppgen verify on it"
            ) from error
        return cls(
            store=store,
            plan=plan,
            kind=plan["kind"],
            class_names=list(header.source.class_names),
            classes=sorted(header.classes),
            resolution=header.resolution,
            channels=header.channels,
            shards=shards,
        )

    def read(self, shard: ShardRef) -> Iterator[RawSample]:
        """All samples of one shard, in order. The whole tar is read at once.

        Raises:
            UserError: the tar is missing, truncated, not written by ppgen, or has another number of samples than the index says.
        """
        try:
            data = self.store.read(shard.path, self.most_bytes(shard.samples))
        except FileNotFoundError as error:
            raise UserError(
                f"{self.store.path(shard.path)} is missing; run ppgen verify --repair, then ppgen again"
            ) from error
        count = 0
        for sample in iter_tar(io.BytesIO(data), self.store.path(shard.path)):
            count += 1
            yield sample
        if count != shard.samples:
            raise UserError(
                f"{self.store.path(shard.path)} holds {count} samples, the index says {shard.samples}; run ppgen verify on the directory"
            )

    def most_bytes(self, samples: int) -> int:
        """An upper bound in bytes for a tar of `samples` samples."""
        return most_bytes(samples, self.resolution, self.channels, self.num_classes)

    def fetch(self, sample: SupportsIndex | str) -> RawSample:
        """One sample by position or key (the position with leading zeros). Only the bytes of the sample are read.

        The first sample of a shard also reads the offsets of the shard's samples, which are kept (8 bytes a sample).

        Raises:
            UserError: there is no such sample, or its shard is missing or damaged.
        """
        if isinstance(sample, str):
            position = int(sample) if sample.isdecimal() else -1
        else:
            position = operator.index(sample)
        if not 0 <= position < self.samples:
            raise UserError(f"{self.store} has no sample {sample!r}; it holds 0 to {self.samples - 1}")
        shard, row = self.locate(position)
        path = self.store.path(shard.path)
        try:
            offsets = self._offsets.get(shard.index)
            if offsets is None:
                offsets = self._offsets[shard.index] = _read_offsets(self.store.read(meta_path(shard.index)))
            start = int(offsets[row]) - TAR_BLOCK  # the image's header
            end = int(offsets[row + 1]) - TAR_BLOCK if row + 1 < len(offsets) else shard.bytes
            data = self.store.read_range(shard.path, start, end - start)
        except (FileNotFoundError, ValueError, KeyError, IndexError) as error:
            raise UserError(
                f"sample {sample!r} of {path} cannot be found ({error}); run ppgen verify on its directory"
            ) from error
        raw = next(iter_tar(io.BytesIO(data + bytes(TAR_BLOCK)), path), None)
        if raw is None or raw.key != sample_key(position):
            raise UserError(
                f"{path} does not hold sample {sample!r} at the offset of its row; run ppgen verify on its directory"
            )
        return replace(raw, offset=start + TAR_BLOCK)

    def locate(self, position: int) -> tuple[ShardRef, int]:
        """The shard of the sample at a position, 0 <= position < samples, and its row in that shard."""
        number = int(self._ends.searchsorted(position, side="right"))
        shard = self.shards[number]
        return shard, position - int(self._ends[number]) + shard.samples


def _require_readable(plan: dict[str, Any], root: str, kind: str | None) -> None:
    """Raise UserError unless `plan` has this format, a known version and the expected kind."""
    if plan.get("format") != FORMAT or plan.get("kind") not in KINDS:
        raise UserError(
            f"{root}/plan.json was not written by ppgen; give a directory made by ppgen synth or ppgen pseudo"
        )
    if plan.get("version") != VERSION:
        raise UserError(
            f"{root} has shard format version {plan.get('version')!r}, this program reads {VERSION}; use the matching version"
        )
    if kind is not None and plan["kind"] != kind:
        raise UserError(
            f"{root} holds {plan['kind']} samples where {kind} samples are needed; give a directory made by ppgen {kind}"
        )


def _read(store: Store, name: str, missing: str) -> bytes:
    """The bytes of a JSON file. Raises UserError with the text `missing` if there is no such file."""
    try:
        return store.read(name, MAX_JSON_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(missing) from error


def _read_offsets(meta: bytes) -> np.ndarray:
    return read_table(meta, None, columns=["offset"]).column("offset").to_numpy()
