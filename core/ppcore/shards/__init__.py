"""The shard directory, the whole contract between ppgen and pptrain: names, schemas, and the reading side."""

from ppcore.shards.layout import (
    CARD,
    COMMITS,
    CONDITIONS,
    FORMAT,
    INDEX,
    KINDS,
    MANIFEST,
    META,
    PLAN,
    REPORT,
    SHARDS,
    VERSION,
    commit_path,
    default_directory,
    meta_path,
    most_bytes,
    sample_key,
    tar_path,
)
from ppcore.shards.reader import ShardSet
from ppcore.shards.schema import CONDITION_SCHEMA, ROW_SCHEMA, ShardRef
from ppcore.shards.tars import RawSample, encode_soft, iter_tar

__all__ = [
    "CARD",
    "COMMITS",
    "CONDITIONS",
    "CONDITION_SCHEMA",
    "FORMAT",
    "INDEX",
    "KINDS",
    "MANIFEST",
    "META",
    "PLAN",
    "REPORT",
    "ROW_SCHEMA",
    "SHARDS",
    "VERSION",
    "RawSample",
    "ShardRef",
    "ShardSet",
    "commit_path",
    "default_directory",
    "encode_soft",
    "iter_tar",
    "meta_path",
    "most_bytes",
    "sample_key",
    "tar_path",
]
