"""index.json, the explicit list of a finished directory's shards; a long one is spread over pages."""

from __future__ import annotations

from ppcore.shards.layout import INDEX, index_page
from ppcore.shards.schema import Index, ShardRef
from ppcore.storage import MAX_JSON_BYTES, Store, decode


def read_index(store: Store) -> list[ShardRef]:
    """All shards, in order.

    Raises:
        FileNotFoundError: there is no index.json: the directory is not finished.
        ValueError: it, or a page of it, is damaged, missing or not what index.json says.
    """
    index = _read(store, INDEX)
    shards = list(index.shardlist)
    for number, page in enumerate(index.pages):
        if page.path != index_page(number):
            raise ValueError(f"page {number} of the index is {page.path!r}")
        try:
            listed = _read(store, page.path).shardlist
        except FileNotFoundError:
            raise ValueError(f"{page.path} is missing") from None
        if len(listed) != page.shards:
            raise ValueError(f"{page.path} lists {len(listed)} shards, {INDEX} says {page.shards}")
        shards += listed
    return shards


def count_indexed(store: Store) -> int:
    """How many shards the index lists; its pages are not read. Raises FileNotFoundError, ValueError."""
    index = _read(store, INDEX)
    return len(index.shardlist) + sum(page.shards for page in index.pages)


def _read(store: Store, name: str) -> Index:
    index = decode(Index, store.read(name, MAX_JSON_BYTES))
    if not index.shardlist and not index.pages:
        raise ValueError(f"{name} lists no shards")
    return index
