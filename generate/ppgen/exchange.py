"""Pushing a directory to a dataset repository of the hub: 50 shards in a commit, card and index last."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ppcore.errors import UserError, first_line
from ppcore.shards import (
    CARD,
    CONDITIONS,
    INDEX,
    MANIFEST,
    PLAN,
    ShardSet,
    commit_path,
    index_pages,
    meta_path,
    tar_path,
)
from ppcore.storage import Store
from ppgen.plan import Plan, decode_plan
from ppgen.shards import read_plan
from ppgen.sources import redistribution
from ppgen.upkeep import checked_shard

_SHARDS_A_COMMIT = 50  # the hub counts commits, not files
_URL = re.compile(r"hf://(?:datasets/)?([\w.-]+/[\w.-]+)")


def push_to_hub(
    source: Store, url: str, *, public: bool = False, on_shard: Callable[[int], None] | None = None
) -> int:
    """Upload a finished directory to the repository `hf://[datasets/]OWNER/NAME`. The same call resumes.

    Args:
        public: make a new repository public and not private.
        on_shard: called with the number of samples of every shard that was pushed.

    Returns:
        Samples that were pushed.

    Raises:
        UserError: no such URL, an unfinished or damaged directory, a repository with something else in it, or the hub refuses.
    """
    from huggingface_hub import HfApi  # takes half a second to import

    repository = _repository(url)
    ShardSet.open(source.root)
    plan = read_plan(source)
    api = HfApi()
    with _asking(repository):
        api.create_repo(repository, repo_type="dataset", private=not public, exist_ok=True)
        there = set(api.list_repo_files(repository, repo_type="dataset"))
        if PLAN in there:
            path = api.hf_hub_download(repository, PLAN, repo_type="dataset")
            with open(path, "rb") as handle:
                stored = decode_plan(handle.read(), f"{url}/{PLAN}")
            if stored.fingerprint != plan.fingerprint:
                raise UserError(f"{url} holds another directory; give a new repository")
        else:
            names = [PLAN, *([CONDITIONS] if plan.kind == "pseudo" else [])]
            _commit(api, repository, {name: source.read(name) for name in names}, "Plan")
        pushed = 0
        for part in _parts([n for n in range(plan.num_shards) if commit_path(n) not in there]):
            files: dict[str, bytes] = {}
            for shard in part:
                record, tar, meta = checked_shard(source, plan, shard)
                files |= {tar_path(shard): tar, meta_path(shard): meta, commit_path(shard): record.to_json()}
            _commit(api, repository, files, f"Shards {part[0]} to {part[-1]}")
            for shard in part:
                count = plan.locate(shard)[2]
                pushed += count
                if on_shard is not None:
                    on_shard(count)
        last = [MANIFEST, CARD, *(name for name, _ in index_pages(plan.num_shards)), INDEX]
        if pushed or INDEX not in there:
            _commit(api, repository, {name: source.read(name) for name in last}, "Manifest, card and index")
    return pushed


def _repository(url: str) -> str:
    found = _URL.fullmatch(url.rstrip("/"))
    if found is None:
        raise UserError(f"{url} is not a repository; write hf://datasets/OWNER/NAME")
    return found[1]


def _parts(shards: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(shards), _SHARDS_A_COMMIT):
        yield shards[start : start + _SHARDS_A_COMMIT]


def _commit(api: Any, repository: str, files: dict[str, bytes], message: str) -> None:
    from huggingface_hub import CommitOperationAdd

    operations = [CommitOperationAdd(name, data) for name, data in files.items()]
    api.create_commit(repository, operations, commit_message=message, repo_type="dataset")


@contextmanager
def _asking(repository: str) -> Iterator[None]:
    """Turn errors of the hub into a UserError of one sentence."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except (HfHubHTTPError, OSError) as error:
        raise UserError(
            f"the hub refuses {repository} ({first_line(error)}); log in with a token that may write there (hf auth login, or HF_TOKEN), "
            f"then repeat the command to resume"
        ) from error


def require_redistribution(plan: Plan, declared: tuple[str, ...] = ()) -> None:
    """Refuse to share a directory if the licence of its generator forbids that or is not known.

    Args:
        declared: licences that the user has read and says allow it; only for those that are not known here.

    Raises:
        UserError: it is forbidden, or unknown and not declared.
    """
    name, licence = plan.source["name"], str(plan.source.get("licence") or "unknown")
    answer = redistribution(licence)
    if answer == "forbidden":
        raise UserError(
            f"the samples come from {name}, whose licence {licence!r} forbids sharing what is made with it; keep the directory where it "
            f"is, or generate from another source (see ppgen sources)"
        )
    if answer == "unknown" and licence not in declared:
        raise UserError(
            f"the samples come from {name}, and ppgen does not know whether its licence {licence!r} allows sharing them; read the "
            f"licence, and if it does, repeat the command with --may-redistribute {licence!r}"
        )
