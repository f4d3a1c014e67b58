"""What ppgen left under runs/: the newest finished directories, and which target a pseudo directory was made for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ppcore.errors import UserError
from ppcore.shards import INDEX, PLAN
from ppcore.storage import read_json
from ppcore.targets import may_be_named, target_name

RUNS = "runs"

_P = TypeVar("_P")


@dataclass(frozen=True)
class _Target:
    name: str
    labels_per_class: int | None = None


@dataclass(frozen=True)
class _Load:
    target: str | None = None


@dataclass(frozen=True)
class _Source:
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Plan:
    """What any directory's plan.json says of its source."""

    source: _Source = _Source()


@dataclass(frozen=True)
class _PseudoPlan:
    """What a pseudo directory's plan.json says of its target; `load` is how ppgen was asked to load it."""

    target: _Target
    load: _Load | None = None


@dataclass(frozen=True)
class FoundPseudo:
    """A finished pseudo directory.

    Attributes:
        target: spec of the target that it was made for, or its name where the plan has no more.
        name: of that target.
        placed: whether the plan has more than the name; those of version 1 have not.
        labels_per_class: labelled images that conditioned it; None for all.
    """

    path: Path
    target: str
    labels_per_class: int | None
    name: str
    placed: bool

    def is_for(self, spec: str) -> bool:
        """Whether it was made for the target `spec`: the same place or known name, or its name where its own place cannot be found here."""
        by_name = self.placed and _asks_by_name(self.target, self.name)
        if self.target == spec or (by_name and _asks_by_name(spec, self.name)):
            return True
        try:
            recorded, asked = Path(self.target).resolve(), Path(spec).resolve()
            known = self.placed and (by_name or may_be_named(self.target) or recorded.exists())
        except (OSError, ValueError, RuntimeError):  # a stranger's plan may name what no file system takes
            return False
        return recorded == asked or (not known and self.name == target_name(spec))

    def require_open_target(self) -> None:
        """Raise UserError if the plan names a place as its target: plan.json may come from anybody, so a place must be typed."""
        if not may_be_named(self.target):
            raise UserError(
                f"{self.path}/{PLAN} names the target {self.target!r}, a place outside the directory; give --target with that target"
            )


def newest(kind: str, root: str = RUNS) -> Path | None:
    """The finished `kind` directory (synth or pseudo) written last below `root`."""
    return next(iter(_finished(kind, root)), None)


def find_pseudo(root: str = RUNS) -> list[FoundPseudo]:
    """All finished pseudo directories below `root`, the one written last first. Raises UserError for a damaged plan."""
    return [_read(path) for path in _finished("pseudo", root)]


def same_source_classes(one: Path, other: Path) -> bool:
    """Whether two directories show the same source classes. Raises UserError for a damaged plan."""
    names = [_plan(path, _Plan).source.class_names for path in (one, other)]
    return bool(names[0]) and names[0] == names[1]


def _finished(kind: str, root: str) -> list[Path]:
    found = [p.parent for p in Path(root).glob(f"{kind}-*/{INDEX}")]
    return sorted(found, key=lambda p: (p / INDEX).stat().st_mtime, reverse=True)


def _plan(path: Path, kind: type[_P]) -> _P:
    try:
        return read_json(path / PLAN, kind)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}/{PLAN} is damaged ({error}); run ppgen verify on the directory") from error


def _read(path: Path) -> FoundPseudo:
    plan = _plan(path, _PseudoPlan)
    place, target = plan.load and plan.load.target, plan.target
    return FoundPseudo(
        path=path,
        target=place or target.name,
        labels_per_class=target.labels_per_class,
        name=target.name,
        placed=bool(place),
    )


def _asks_by_name(spec: str, name: str) -> bool:
    """Whether `spec` is the target's name, or `NAME=DIR`: the same data from any place."""
    return spec == name or spec.startswith(f"{name}=")
