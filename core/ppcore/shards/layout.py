"""Names and paths in a shard directory, its format's version, and the size its parts can have."""

from __future__ import annotations

from ppcore import SHARD_FORMAT
from ppcore.storage import MAX_OBJECT_BYTES

FORMAT = "pptransfer-shards"
VERSION = SHARD_FORMAT  # of new directories: what a plan says of how its source was loaded is part of its fingerprint
READABLE = (1, 2)
PLAN, INDEX, MANIFEST, CARD, REPORT, CONDITIONS = (
    "plan.json",
    "index.json",
    "manifest.parquet",
    "README.md",
    "report.html",
    "conditions.parquet",
)
SHARDS, META, COMMITS, PAGES = "shards", "meta", "commits", "index"
PAGE_SHARDS = 50_000  # entries that index.json holds by itself, and a page of it: some 10 MB
LOGS = "logs"  # of runs: no part of the data, differs from run to run
KINDS = ("synth", "pseudo")


def sample_key(index: int) -> str:
    """Key of a sample: its zero-padded global index."""
    return f"{index:09d}"


def shard_name(shard: int) -> str:
    return f"{shard:06d}"


def tar_path(shard: int) -> str:
    return f"{SHARDS}/{shard_name(shard)}.tar"


def meta_path(shard: int) -> str:
    return f"{META}/{shard_name(shard)}.parquet"


def commit_path(shard: int) -> str:
    return f"{COMMITS}/{shard_name(shard)}.json"


def default_directory(kind: str, source: str, target: str | None = None) -> str:
    """Where ppgen writes, and pptrain looks, when no directory is given: `runs/synth-SOURCE`, `runs/pseudo-SOURCE-TARGET`."""
    return f"runs/{'-'.join(part for part in (kind, source, target) if part)}"


def most_bytes(samples: int, resolution: int, channels: int, num_classes: int) -> int:
    """More than a tar of so many samples can have: an encoded image is never twice its pixels and a few headers."""
    each = 2 * channels * resolution**2 + 4 * num_classes + (16 << 10)
    return min(samples * each + (1 << 20), MAX_OBJECT_BYTES)


def index_page(page: int) -> str:
    return f"{PAGES}/{shard_name(page)}.json"


def index_pages(shards: int) -> list[tuple[str, range]]:
    """The pages that index.json names in the place of so many shards, and the shards that each lists; none where it lists all itself."""
    if shards <= PAGE_SHARDS:
        return []
    firsts = range(0, shards, PAGE_SHARDS)
    return [(index_page(i), range(n, min(n + PAGE_SHARDS, shards))) for i, n in enumerate(firsts)]


def planned_files(shards: int) -> dict[str, set[str]]:
    """Folder -> names of the files in it, where so many shards are planned."""
    paths = {SHARDS: tar_path, META: meta_path, COMMITS: commit_path}
    planned = {folder: {path(n).rsplit("/", 1)[-1] for n in range(shards)} for folder, path in paths.items()}
    return {**planned, PAGES: {name.rsplit("/", 1)[-1] for name, _ in index_pages(shards)}}
