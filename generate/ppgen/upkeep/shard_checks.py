"""Checking one shard: everything but the images is computed again from the plan and compared."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
from PIL import Image

from ppcore.errors import UserError
from ppcore.shards import ROW_SCHEMA, RawSample, iter_tar, meta_path, most_bytes, sample_key, tar_path
from ppcore.storage import MAX_OBJECT_BYTES, Store, read_table
from ppgen.plan import Conditions, Plan, condition_rows
from ppgen.shards import MAX_DRAWS, Samples, ShardCommit, describe_rows, pack_tar, stored_file, with_attempts

_PIL_FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}


class ShardFiles(Store):
    """A directory that reads each file once, while one shard is checked.

    Attributes:
        table: the parquet rows of the shard, after they were read and had the right columns.
    """

    def __init__(self, store: Store) -> None:
        self.__dict__.update(vars(store))
        self._kept: dict[str, bytes] = {}
        self.table: pa.Table | None = None

    def read(self, name: str, limit: int = MAX_OBJECT_BYTES) -> bytes:
        if name not in self._kept:
            self._kept[name] = super().read(name, limit)
        return self._kept[name]


def check_shard(
    store: ShardFiles, plan: Plan, shard: int, commit: ShardCommit, conditions: Conditions | None
) -> list[str]:
    """The problems of one shard; empty if there are none."""
    problems = []
    if commit.fingerprint != plan.shard_fingerprint(shard):
        problems.append("was committed for another plan")
    rows = plan.sample_rows(shard)
    if commit.samples != len(rows):
        problems.append(f"is recorded with {commit.samples} samples, planned with {len(rows)}")
    contents: list[bytes] = []
    most = most_bytes(len(rows), plan.resolution, plan.channels, plan.num_classes)
    for path, recorded in ((tar_path(shard), commit.tar), (meta_path(shard), commit.parquet)):
        try:
            contents.append(store.read(path, most))
        except FileNotFoundError:
            return [*problems, f"lacks {path}"]
        except (UserError, OSError) as error:
            return [*problems, f"cannot be read: {error}"]
        found = stored_file(contents[-1])
        if found.bytes != recorded.bytes:
            problems.append(f"{path} has {found.bytes} bytes, recorded with {recorded.bytes}")
        elif found != recorded:
            problems.append(f"{path} does not match its recorded sha256")
    tar, parquet = contents
    try:
        raw = list(iter_tar(io.BytesIO(tar), tar_path(shard)))
        table = read_table(parquet, len(rows))
    except (UserError, ValueError) as error:
        return [*problems, f"cannot be read: {error}"]
    keys = [sample_key(int(index)) for index in rows.index]
    if [sample.key for sample in raw] != keys:
        return [
            *problems,
            f"{tar_path(shard)} holds other samples than planned ({_first_difference(raw, keys)})",
        ]
    if table.schema != ROW_SCHEMA or len(table) != len(rows):
        return [
            *problems,
            f"{meta_path(shard)} has {len(table)} rows or other columns than planned ({len(rows)} rows)",
        ]
    store.table = table
    condition, label = condition_rows(plan, rows, conditions)
    attempt = table.column("attempt").to_numpy()
    if attempt.min() < 0 or attempt.max() >= MAX_DRAWS:
        problems.append(f"{meta_path(shard)} is wrong in column 'attempt'")
    rows = with_attempts(rows, attempt)
    ids = (
        None if conditions is None or rows.target is None else [conditions.target_ids[t] for t in rows.target]
    )
    images = [sample.image for sample in raw]
    samples = Samples(rows, condition, label, images, attempt=attempt, target_ids=ids)
    problems += _check_images(plan, raw)
    problems += _check_rows(plan, shard, samples, [sample.offset for sample in raw], table)
    if pack_tar(plan, samples)[0] != tar:
        problems.append(f"{tar_path(shard)} differs from the plan{_label_problem(raw, samples)}")
    return problems


def _check_images(plan: Plan, raw: list[RawSample]) -> list[str]:
    """Format, size and channels as the file headers state them."""
    wanted = (_PIL_FORMATS[plan.encoding["format"]], (plan.resolution, plan.resolution))
    modes = ("L", "RGB") if plan.encoding["format"] == "webp" else ("L",) if plan.channels == 1 else ("RGB",)
    for sample in raw:
        try:
            with Image.open(io.BytesIO(sample.image), formats=[wanted[0]]) as image:
                found = (image.format, image.size)
                mode = image.mode
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            return [f"image {sample.key} cannot be read ({error})"]
        if found != wanted or mode not in modes:
            return [
                f"image {sample.key} is {found[0]} {found[1]} {mode}, planned {wanted[0]} {wanted[1]} {modes[0]}"
            ]
    return []


def _check_rows(plan: Plan, shard: int, samples: Samples, offsets: list[int], table: pa.Table) -> list[str]:
    """Compare the parquet columns with those computed from plan and images. Confidences must be there if the plan has a score."""
    expected = describe_rows(shard, samples, offsets)
    problems = [
        f"{meta_path(shard)} is wrong in column {name!r}"
        for name in ROW_SCHEMA.names
        if name != "confidence" and not table.column(name).equals(expected.column(name))
    ]
    confidence = table.column("confidence")
    absent = len(confidence) if plan.score is None else 0
    if confidence.null_count != absent:
        problems.append(
            f"{meta_path(shard)} has {len(confidence) - confidence.null_count} confidences, planned {len(table) - absent}"
        )
    elif plan.score is not None:
        values = confidence.to_numpy()
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1 + 1e-5):
            problems.append(f"{meta_path(shard)} has confidences outside 0 to 1")
    return problems


def _label_problem(raw: list[RawSample], samples: Samples) -> str:
    """Which sample has another label in the tar than planned, as the end of an error text."""
    for position, sample in enumerate(raw):
        if samples.rows.target is None:
            assert samples.label is not None
            if sample.label != int(samples.label[position]):
                return f": {sample.key} is labelled {sample.label}, planned {int(samples.label[position])}"
        elif sample.soft is None or not np.array_equal(sample.soft, samples.condition[position]):
            return f": the soft label of {sample.key} is not the planned one"
    return " in its headers or padding"


def _first_difference(raw: list[RawSample], keys: list[str]) -> str:
    for sample, key in zip(raw, keys, strict=False):
        if sample.key != key:
            return f"{sample.key} where {key} belongs"
    return f"{len(raw)} and not {len(keys)}"
