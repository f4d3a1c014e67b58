"""Finishing a directory: manifest, dataset card and index, each written atomically."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow.parquet as pq

from ppcore.console import printable_name
from ppcore.errors import UserError
from ppcore.shards import CARD, INDEX, MANIFEST, ROW_SCHEMA, index_pages, meta_path, tar_path
from ppcore.storage import Store, in_order, read_table
from ppgen.plan import Plan
from ppgen.shards.card import write_card
from ppgen.shards.commit import ShardCommit, read_commits


def finalize(store: Store, plan: Plan, known: Mapping[int, ShardCommit] | None = None) -> None:
    """Write manifest.parquet, README.md and, last, index.json, which says that the directory is complete.

    Every shard must be committed. Memory grows with the number of shards by their commit records alone.

    Args:
        known: commit records that need not be read again.
    """
    commits = _all_commits(store, plan, known or {})
    versions = Counter(json.dumps(commit.versions, sort_keys=True) for commit in commits)
    _write_manifest(store, plan)
    bad = sum(commit.bad or 0 for commit in commits)
    card = write_card(plan, [json.loads(text) for text, _ in versions.most_common()], bad)
    store.write_atomic(CARD, printable_name(card).encode())
    for name, document in make_index(plan, commits):
        store.write_atomic(name, json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n")


def _all_commits(store: Store, plan: Plan, known: Mapping[int, ShardCommit]) -> list[ShardCommit]:
    """The commit records of all shards, in order. Raises the error of the first record that cannot be read."""
    missing = [shard for shard in range(plan.num_shards) if shard not in known]
    read = dict(zip(missing, read_commits(store, missing), strict=True))
    commits = []
    for shard in range(plan.num_shards):
        commit = known.get(shard) or read[shard]
        if isinstance(commit, Exception):
            raise commit
        commits.append(commit)
    return commits


def make_index(plan: Plan, commits: list[ShardCommit]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The files of the index, index.json last. It has the form that webdataset's index tools (wids) read, unless there are so many
    shards that they are listed in pages.

    Args:
        commits: of all shards, in order.
    """
    pages = index_pages(len(commits))
    for page, shards in pages:
        yield page, {"shardlist": [_entry(shard, commits[shard]) for shard in shards]}
    kind: dict[str, Any] = {"__kind__": "wids-shard-index-v1", "wids_version": 1}
    if pages:
        kind = {"__kind__": "pptransfer-paged-index-v1"}
        listed = {"pages": [{"url": page, "nshards": len(shards)} for page, shards in pages]}
    else:
        listed = {"shardlist": [_entry(shard, commit) for shard, commit in enumerate(commits)]}
    yield (
        INDEX,
        {
            **kind,
            "name": f"{plan.kind}-{plan.source['name']}",
            "kind": plan.kind,
            "fingerprint": plan.fingerprint,
            "samples": plan.samples,
            "bytes": sum(commit.tar.bytes for commit in commits),
            **listed,
        },
    )


def _entry(shard: int, commit: ShardCommit) -> dict[str, Any]:
    """The entry of a shard in the index."""
    return {
        "index": shard,
        "url": tar_path(shard),
        "nsamples": commit.samples,
        "filesize": commit.tar.bytes,
        "sha256": commit.tar.sha256,
    }


def _write_manifest(store: Store, plan: Plan) -> None:
    """Write all parquet rows to one file, with a row group for each shard."""
    staged = store.stage(MANIFEST)
    try:
        # pyarrow opens no path outside UTF-8
        with staged.open("wb") as file, pq.ParquetWriter(file, ROW_SCHEMA, compression="zstd") as writer:
            for rows in in_order(
                lambda shard: read_rows(store, plan, shard), range(plan.num_shards), store.width
            ):
                writer.write_table(rows)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    store.publish(staged, MANIFEST)


def read_rows(store: Store, plan: Plan, shard: int) -> Any:
    """The parquet rows of one shard as a pyarrow table. Raises FileNotFoundError, UserError."""
    try:
        table = read_table(store.read(meta_path(shard)), plan.locate(shard)[2])
    except ValueError as error:
        raise UserError(
            f"{store.path(meta_path(shard))} is damaged ({error}); run ppgen verify --repair on {store}, then the same command again"
        ) from error
    if table.schema != ROW_SCHEMA:
        raise UserError(
            f"{store.path(meta_path(shard))} has other columns than ppgen writes; run ppgen verify --repair on {store}, then the "
            f"same command again"
        )
    return table
