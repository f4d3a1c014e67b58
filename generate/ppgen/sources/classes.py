"""Classes as people write them: by number, identifier, name or synonym."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from ppcore.classifiers import imagenet_class_names
from ppcore.kits import IMAGENET_IDS, Kit

ENOUGH = 0.9  # share of classes with a common name from which two lists count as the same classes in the same order


class ClassIndex:
    """Finds classes by identifier, else by name, else by name in other case, else by one of the names that commas separate.

    Args:
        names: of the K classes, in order.
        ids: K identifiers, or () for those that :func:`known_ids` finds.
    """

    def __init__(self, names: Sequence[str], ids: Sequence[str] = ()) -> None:
        self._tables = [
            _table((text, i) for i, text in enumerate(ids or known_ids(names))),
            _table((name, i) for i, name in enumerate(names)),
            _table((_plain(name), i) for i, name in enumerate(names)),
            _table((synonym, i) for i, name in enumerate(names) for synonym in synonyms(name)),
        ]

    def find(self, text: str) -> list[int]:
        """The numbers of the classes that a text can mean, rising."""
        for table, key in zip(self._tables, (text, text, _plain(text), _plain(text)), strict=True):
            if key in table:
                return table[key]
        return []


def known_ids(names: Sequence[str], kit: Kit | None = None) -> tuple[str, ...]:
    """Identifiers of the classes of a source: its kit's, else the WordNet ids where the names are ImageNet's in order, else ()."""
    if kit is not None and kit.class_ids:
        return kit.class_ids
    if len(names) != len(IMAGENET_IDS):
        return ()
    agree = sum(share_a_name(a, b) for a, b in zip(names, imagenet_class_names(), strict=True))
    return IMAGENET_IDS if agree >= ENOUGH * len(names) else ()


def share_a_name(first: str, second: str) -> bool:
    """Whether two names of a class have a synonym in common ("tench, Tinca tinca" and "Tench")."""
    return bool(synonyms(first) & synonyms(second))


def synonyms(name: str) -> set[str]:
    """The names that commas separate in a name, in lower case."""
    return {part.strip().lower() for part in name.split(",")}


def _plain(name: str) -> str:
    return ", ".join(part.strip().lower() for part in name.split(","))


def _table(pairs: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    table: dict[str, list[int]] = defaultdict(list)
    for key, i in pairs:
        table[key].append(i)
    return dict(table)
