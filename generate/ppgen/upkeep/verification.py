"""Proof that a shard directory is what its plan says: every byte of every shard is derived again from plan and images."""

from __future__ import annotations

import hashlib
import io
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from ppcore.errors import UserError
from ppcore.seeds import numpy_rng
from ppcore.shards import (
    COMMITS,
    CONDITIONS,
    INDEX,
    MANIFEST,
    META,
    ROW_SCHEMA,
    SHARDS,
    RawSample,
    commit_path,
    iter_tar,
    meta_path,
    most_bytes,
    sample_key,
    tar_path,
)
from ppcore.storage import MAX_JSON_BYTES, Store, open_table, parse_json, read_table
from ppgen.plan import Conditions, Plan, ShardPlan, condition_rows
from ppgen.shards import (
    Samples,
    Worker,
    describe_rows,
    make_index,
    pack,
    read_commit,
    read_rows,
    with_attempts,
)

Check = Callable[[int, dict[str, Any]], list[str]]

_PIL_FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}


@dataclass
class Report:
    """What is wrong.

    Attributes:
        shards: shard -> what is wrong with it.
        general: what is wrong with the directory as a whole.
        conditions_bad: whether that is the condition table.
        checked: samples looked at.
    """

    shards: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    general: list[str] = field(default_factory=list)
    conditions_bad: bool = False
    checked: int = 0

    @property
    def ok(self) -> bool:
        return not self.shards and not self.general


def verify(store: Store, plan: Plan, on_shard: Callable[[int], None] | None = None) -> Report:
    """Check plan, tars, parquet files, commit records, manifest and index against each other.

    Args:
        on_shard: called with the number of samples after every shard.
    """
    report = Report()
    conditions = _read_conditions(store, plan, report)

    def check(shard: int, record: dict[str, Any]) -> list[str]:
        if plan.kind == "pseudo" and conditions is None:
            return []  # nothing to compare with; the report says why
        return check_shard(store, plan, shard, record, conditions)

    return verify_shards(store, plan, check, report, on_shard)


def verify_shards(
    store: Store, plan: ShardPlan, check: Check, report: Report, on_shard: Callable[[int], None] | None = None
) -> Report:
    """Check every shard with `check`, and manifest, index and strays against the commit records; fills in `report`."""
    records: dict[int, dict[str, Any]] = {}
    for shard in range(plan.num_shards):
        count = plan.locate(shard)[2]
        try:
            records[shard] = read_commit(store, shard)
        except FileNotFoundError:
            report.shards[shard].append("is not committed")
        except ValueError as error:
            report.shards[shard].append(f"has a damaged commit record ({error})")
        else:
            problems = check(shard, records[shard])
            if problems:
                report.shards[shard].extend(problems)
            report.checked += count
        if on_shard is not None:
            on_shard(count)
    _check_strays(store, plan, report)
    if len(records) == plan.num_shards:
        _check_index(store, plan, [records[shard] for shard in sorted(records)], report)
        _check_manifest(store, plan, report)
    return report


def check_shard(
    store: Store, plan: Plan, shard: int, record: dict[str, Any], conditions: Conditions | None
) -> list[str]:
    """What is wrong with one shard; empty when nothing is."""
    problems = []
    if record["fingerprint"] != plan.shard_fingerprint(shard):
        problems.append("was committed for another plan")
    rows = plan.sample_rows(shard)
    if record["samples"] != len(rows):
        problems.append(f"is recorded with {record['samples']} samples, planned with {len(rows)}")
    contents: dict[str, bytes] = {}
    most = most_bytes(len(rows), plan.resolution, plan.channels, plan.num_classes)
    for name, path in (("tar", tar_path(shard)), ("parquet", meta_path(shard))):
        try:
            contents[name] = store.read(path, most)
        except FileNotFoundError:
            return [*problems, f"lacks {path}"]
        except (UserError, OSError) as error:
            return [*problems, f"cannot be read: {error}"]
        if len(contents[name]) != record[name]["bytes"]:
            problems.append(f"{path} has {len(contents[name])} bytes, recorded with {record[name]['bytes']}")
        elif hashlib.sha256(contents[name]).hexdigest() != record[name]["sha256"]:
            problems.append(f"{path} does not match its recorded sha256")
    try:
        raw = list(iter_tar(io.BytesIO(contents["tar"]), tar_path(shard)))
        table = read_table(contents["parquet"], len(rows))
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
    condition, label = condition_rows(plan, rows, conditions)
    attempt = table.column("attempt").to_numpy()
    last = 0 if plan.redraw is None else int(plan.redraw["draws"]) - 1
    if attempt.min() < 0 or attempt.max() > last:
        problems.append(f"{meta_path(shard)} lies in column 'attempt'")
    rows = with_attempts(rows, attempt)
    ids = (
        None if conditions is None or rows.target is None else [conditions.target_ids[t] for t in rows.target]
    )
    images = [sample.image for sample in raw]
    samples = Samples(rows, condition, label, images, attempt=attempt, target_ids=ids)
    problems += _check_images(plan, raw)
    problems += _check_rows(plan, shard, samples, [sample.offset for sample in raw], table)
    if pack(plan, shard, samples)[0] != contents["tar"]:
        problems.append(f"{tar_path(shard)} differs from the plan{_label_problem(raw, samples)}")
    return problems


def regenerate(worker: Worker, store: Store, count: int, seed: int) -> Report:
    """Sample `count` random images again and compare their bytes with the tars.

    A whole batch is sampled for each, because results depend on the batch in the last bits.

    Args:
        seed: chooses the samples.
    """
    plan, report = worker.plan, Report()
    chosen = numpy_rng(seed, "regenerate").choice(plan.samples, size=min(count, plan.samples), replace=False)
    batches: dict[tuple[int, int], set[int]] = defaultdict(set)
    for position in chosen:
        shard, row = plan.shard_of(int(position))
        # With draws that were thrown away the unit that can be sampled again is the shard.
        batches[shard, row // plan.batch_size if plan.redraw is None else 0].add(row)
    for (shard, _), wanted in sorted(batches.items()):
        images, where = worker.regenerate(shard, min(wanted))
        try:
            stored = list(iter_tar(io.BytesIO(store.read(tar_path(shard))), tar_path(shard)))
        except (FileNotFoundError, UserError) as error:
            report.shards[shard].append(f"cannot be read: {error}")
            continue
        for row in sorted(wanted):
            report.checked += 1
            if row >= len(stored) or stored[row].image != images[row - where.start]:
                report.shards[shard].append(
                    f"sample {int(plan.sample_rows(shard).index[row])} comes out differently"
                )
    return report


def _read_conditions(store: Store, plan: Plan, report: Report) -> Conditions | None:
    if plan.kind == "synth":
        return None
    try:
        return Conditions.from_parquet(store.read(CONDITIONS), plan)
    except FileNotFoundError:
        report.general.append(f"{CONDITIONS} is missing")
        report.conditions_bad = True
    except UserError as error:
        report.general.append(str(error))
        report.conditions_bad = True
    return None


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
    """Every parquet column but the confidence follows from plan and images; that one must be there exactly when planned."""
    expected = describe_rows(shard, samples, offsets)
    problems = [
        f"{meta_path(shard)} lies in column {name!r}"
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
    """The first sample whose label in the tar is not the planned one, as the end of a sentence."""
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


def _check_strays(store: Store, plan: ShardPlan, report: Report) -> None:
    """Files in the shard folders that no shard of the plan accounts for."""
    for folder, path in ((SHARDS, tar_path), (META, meta_path), (COMMITS, commit_path)):
        planned = {path(shard).rsplit("/", 1)[-1] for shard in range(plan.num_shards)}
        strays = [name for name in store.list(folder) if name not in planned]
        if strays:
            report.general.append(
                f"{folder}/ holds {len(strays)} files outside the plan, such as {strays[0]}"
            )


def _check_index(store: Store, plan: ShardPlan, records: list[dict[str, Any]], report: Report) -> None:
    try:
        if parse_json(store.read(INDEX, MAX_JSON_BYTES)) != make_index(plan, records):
            report.general.append(f"{INDEX} does not match the commit records")
    except FileNotFoundError:
        report.general.append(f"{INDEX} is missing; run the same ppgen command again to finish the directory")
    except ValueError as error:
        report.general.append(f"{INDEX} is damaged ({error})")


def _check_manifest(store: Store, plan: ShardPlan, report: Report) -> None:
    """The manifest is the shards' parquet rows, one row group a shard."""
    try:
        with store.open(MANIFEST) as handle:
            manifest = open_table(handle)
            if manifest.num_row_groups != plan.num_shards or manifest.metadata.num_rows != plan.samples:
                report.general.append(
                    f"{MANIFEST} has {manifest.metadata.num_rows} rows in {manifest.num_row_groups} groups, planned "
                    f"{plan.samples} in {plan.num_shards}"
                )
                return
            for shard in range(plan.num_shards):
                rows = read_rows(store, plan, shard)
                if not read_table(manifest, len(rows), group=shard).equals(rows):
                    report.shards[shard].append(f"{MANIFEST} does not match {meta_path(shard)}")
    except FileNotFoundError as error:
        report.general.append(f"{error.filename or MANIFEST} is missing")
    except (pa.ArrowException, OSError, ValueError, UserError) as error:
        report.general.append(f"{MANIFEST} cannot be checked ({error})")
