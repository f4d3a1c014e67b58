"""The shard directory, the contract between ppgen and pptrain: names, columns, and the reading side."""

from ppcore.shards.layout import (
    CARD,
    COMMITS,
    CONDITION_SCHEMA,
    CONDITIONS,
    FORMAT,
    INDEX,
    KINDS,
    LOGS,
    MANIFEST,
    META,
    PAGES,
    PLAN,
    REPORT,
    ROW_SCHEMA,
    SHARDS,
    VERSION,
    ShardRef,
    commit_path,
    default_directory,
    index_pages,
    meta_path,
    most_bytes,
    planned_files,
    sample_key,
    tar_path,
)
from ppcore.shards.reader import ShardSet, count_indexed, read_index
from ppcore.shards.tars import RawSample, encode_soft, iter_tar
from ppcore.shards.ustar import (
    TAR_BLOCK,
    build_header,
    end_of_archive,
    padding,
    parse_header,
)
