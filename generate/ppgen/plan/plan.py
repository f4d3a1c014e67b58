"""The plan: class, condition and seed of every sample index, fixed before the first sample is made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Annotated, Any

import numpy as np
from pydantic import ConfigDict, Field

from ppcore.seeds import derive, sample_seed
from ppcore.shards import FORMAT, VERSION

_ROUNDS = 6


def permute(positions: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Images of `positions` under the pseudo-random permutation of range(`size`) that `seed` names.

    A Feistel network over the next power of four with cycle walking (Black & Rogaway 2002). Not
    `numpy.random.Generator.permutation`: numpy does not promise the same stream in every version (NEP 19), and the whole
    table would have to be held by every worker.

    Args:
        positions: integers in [0, size), any shape.
        size: length of the permuted range, at least 1.
        seed: 63-bit seed.

    Returns:
        int64 array of the shape of `positions`.
    """
    half_bits = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    keys = [np.uint64(derive(seed, "feistel", round_)) for round_ in range(_ROUNDS)]
    values = np.asarray(positions).astype(np.uint64)
    shape = values.shape
    values = _feistel(values.ravel(), half_bits, keys)
    outside = np.flatnonzero(values >= np.uint64(size))
    while outside.size:
        values[outside] = _feistel(values[outside], half_bits, keys)
        outside = outside[values[outside] >= np.uint64(size)]
    return values.astype(np.int64).reshape(shape)


def _feistel(values: np.ndarray, half_bits: np.uint64, keys: list[np.uint64]) -> np.ndarray:
    mask = (np.uint64(1) << half_bits) - np.uint64(1)
    left, right = values >> half_bits, values & mask
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & mask)
    return (left << half_bits) | right


def _mix(z: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele et al. 2014), element by element."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


MAX_SAMPLES = 10**9  # nine digits of a key
LOSSLESS_UP_TO = 64
"""Pixels a side up to which images are PNG by default: JPEG's blocks of 8x8 pixels are large in a small image, and PNG costs little."""

_Samples = Annotated[int, Field(ge=0, le=MAX_SAMPLES)]


@dataclass(frozen=True)
class Segment:
    """A range of sample indices that was planned at one time; `ppgen extend` adds another.

    Shards never span segments, so a later segment changes no byte of an earlier one.

    Attributes:
        start: first sample index.
        samples: how many samples.
        per_class: synth only: samples of each planned class, one number when all are equal, else one a class.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    start: _Samples
    samples: Annotated[int, Field(ge=1, le=MAX_SAMPLES)]
    per_class: _Samples | tuple[_Samples, ...] | None = None


@dataclass(frozen=True)
class Rows:
    """The planned samples of one shard, position by position.

    Attributes:
        index: int64 (n,), global sample index.
        seed: int64 (n,), seed of the sample's own noise.
        label: int64 (n,), synth: source class.
        target: int64 (n,), pseudo: row of the condition table.
    """

    index: np.ndarray
    seed: np.ndarray
    label: np.ndarray | None = None
    target: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.index)

    def select(self, where: slice | np.ndarray) -> Rows:
        """The rows of a slice, or at the positions of an integer array."""
        return Rows(
            self.index[where],
            self.seed[where],
            None if self.label is None else self.label[where],
            None if self.target is None else self.target[where],
        )


@dataclass(frozen=True)
class Plan:
    """Everything that decides the bytes of the samples, and `load`. It contains no engine, device or number of workers.

    Attributes:
        kind: "synth" or "pseudo".
        source: {"name", "class_names": K names, "licence", "revision", and what else the generator says of itself: weights,
            solver, guidance ...}.
        classes: class ids of the request (synth), empty for pseudo.
        seed: seed of the run.
        batch_size: samples of every forward pass; results change in the last bits with it.
        samples_per_shard: shards are cut after so many samples.
        encoding: {"format": jpg|png|webp, ...} as :mod:`ppgen.shards.pack` takes it.
        resolution, channels: of the images, pixels and 1 or 3.
        segments: see :class:`Segment`.
        target: pseudo: {"name", "images", "labels_per_class", "sha256", ...}.
        condition: pseudo: {"mode", "temperature", "top_k", "classifier", "sha256"}.
        score: description of the classifier that scores the samples, None when they are not scored.
        redraw: always None. Format 2 has the field, and the fingerprints contain it.
        load: how the source was loaded (paths, options), for later commands. It changes no byte of the samples, but the
            fingerprint covers it.
        version: of the format.
    """

    kind: str
    source: dict[str, Any]
    classes: tuple[int, ...]
    seed: int
    batch_size: int
    samples_per_shard: int
    encoding: dict[str, Any]
    resolution: int
    channels: int
    segments: tuple[Segment, ...]
    target: dict[str, Any] | None = None
    condition: dict[str, Any] | None = None
    score: dict[str, Any] | None = None
    redraw: None = None
    load: dict[str, Any] = field(default_factory=dict)
    format: str = FORMAT
    version: int = VERSION

    # ---- counting

    @property
    def num_classes(self) -> int:
        """K, classes of the source."""
        return len(self.source["class_names"])

    @cached_property
    def samples(self) -> int:
        """Samples of all segments."""
        return sum(segment.samples for segment in self.segments)

    @property
    def per_class(self) -> int | list[int]:
        """Synth: samples of each class over all segments, one number when all are equal, else one a class."""
        totals = np.zeros(len(self.classes), dtype=np.int64)
        for segment in self.segments:
            totals += np.array(segment.per_class, dtype=np.int64)
        return int(totals[0]) if (totals == totals[0]).all() else totals.tolist()

    @cached_property
    def num_shards(self) -> int:
        """Shards of all segments."""
        return sum(self._shards_of(segment) for segment in self.segments)

    def _shards_of(self, segment: Segment) -> int:
        return -(-segment.samples // self.samples_per_shard)

    def locate(self, shard: int) -> tuple[Segment, int, int]:
        """Segment of a shard, position of its first sample in that segment, number of its samples."""
        rest = shard
        for segment in self.segments:
            count = self._shards_of(segment)
            if rest < count:
                first = rest * self.samples_per_shard
                return segment, first, min(self.samples_per_shard, segment.samples - first)
            rest -= count
        raise IndexError(f"shard {shard} of a plan with {self.num_shards}")

    def batches(self, shard: int) -> Iterator[slice]:
        """The slices of a shard's rows that share a forward pass. The last one may be shorter."""
        _, _, count = self.locate(shard)
        for first in range(0, count, self.batch_size):
            yield slice(first, min(first + self.batch_size, count))

    def shard_of(self, index: int) -> tuple[int, int]:
        """Shard of a sample index and the sample's row in it."""
        before = 0
        for segment in self.segments:
            if segment.start <= index < segment.start + segment.samples:
                shard, row = divmod(index - segment.start, self.samples_per_shard)
                return before + shard, row
            before += self._shards_of(segment)
        raise IndexError(f"sample {index} of a plan with {self.samples}")

    # ---- meaning

    def sample_rows(self, shard: int) -> Rows:
        """Index, class or target, and seed of every sample of a shard, in O(shard) time and memory.

        A global permutation of each segment mixes the classes (or the target images) over all its shards.
        """
        segment, first, count = self.locate(shard)
        positions = np.arange(first, first + count, dtype=np.int64)
        index = segment.start + positions
        run_seed = derive(self.seed, self.kind)
        seed = np.array([sample_seed(run_seed, int(i)) for i in index], dtype=np.int64)
        mixed = permute(positions, segment.samples, derive(self.seed, "order", segment.start))
        if self.kind == "pseudo":
            assert self.target is not None
            return Rows(index, seed, target=(segment.start + mixed) % int(self.target["images"]))
        return Rows(index, seed, label=self._class_of(segment, mixed))

    def _class_of(self, segment: Segment, mixed: np.ndarray) -> np.ndarray:
        """Class of permuted positions: the first per_class[0] are the first class, and so on."""
        classes = np.array(self.classes, dtype=np.int64)
        if isinstance(segment.per_class, tuple):
            ends = np.cumsum(segment.per_class)
            return classes[np.searchsorted(ends, mixed, side="right")]
        return classes[mixed // int(segment.per_class or 1)]

    # ---- identity

    def content(self) -> dict[str, Any]:
        """The fields that decide the bytes of the samples, as JSON types."""
        content = json.loads(json.dumps(asdict(self)))
        del content["load"]
        return content

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) of the canonical JSON of the whole plan."""
        return _sha256({**self.content(), "load": self.load})

    def shard_fingerprint(self, shard: int) -> str:
        """sha256 (hex) of all that decides this shard's bytes: the plan without the other segments."""
        return self._segment_fingerprint(self.locate(shard)[0])

    def _segment_fingerprint(self, segment: Segment) -> str:
        known: dict[Segment, str] = self.__dict__.setdefault("_fingerprints", {})
        if segment not in known:
            known[segment] = _sha256({**self.content(), "segments": [asdict(segment)]})
        return known[segment]

    def with_conditions(self, sha256: str) -> Plan:
        """The same plan with another condition table."""
        return replace(self, condition={**(self.condition or {}), "sha256": sha256})


def canonical_json(value: Any) -> bytes:
    """JSON that is the same for equal values: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def _sha256(value: Any) -> str:
    return hashlib.sha256(canonical_json(value)).hexdigest()
