"""The finished directories that ppgen left under runs/, and the target that each pseudo directory was made for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ppcore.errors import UserError
from ppcore.shards import INDEX, PLAN
from ppcore.storage import read_json
from ppcore.targets import may_be_named, target_name

RUNS = "runs"


@dataclass(frozen=True)
class _Source:
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Target:
    name: str
    labels_per_class: int | None = None


@dataclass(frozen=True)
class _Load:
    target: str | None = None


@dataclass(frozen=True)
class _Plan:
    """The part of plan.json that is read here. Only pseudo directories have a target; `load.target` is what the user typed."""

    source: _Source = _Source()
    target: _Target | None = None
    load: _Load | None = None


@dataclass(frozen=True)
class FoundPseudo:
    """A finished pseudo directory.

    Attributes:
        target: the target that it was made for, as the user typed it; only its name if the plan does not record more.
        labels_per_class: labelled images per class that conditioned it; None for all.
        name: name of that target.
        typed: whether the plan records what the user typed.
    """

    path: Path
    target: str
    labels_per_class: int | None
    name: str
    typed: bool

    def is_for(self, spec: str) -> bool:
        """Whether it was made for the target `spec`: the same name or place, or the same name if its place does not exist here."""
        by_name = self.typed and _asks_by_name(self.target, self.name)
        if self.target == spec or (by_name and _asks_by_name(spec, self.name)):
            return True
        try:
            recorded, asked = Path(self.target).resolve(), Path(spec).resolve()
            known = self.typed and (by_name or may_be_named(self.target) or recorded.exists())
        except (OSError, ValueError, RuntimeError):  # plan.json may hold text that is no path
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
    return [_read_pseudo(path) for path in _finished("pseudo", root)]


def same_source_classes(one: Path, other: Path) -> bool:
    """Whether two directories show the same source classes. Raises UserError for a damaged plan."""
    names = [_read_plan(path).source.class_names for path in (one, other)]
    return bool(names[0]) and names[0] == names[1]


def _finished(kind: str, root: str) -> list[Path]:
    found = [p.parent for p in Path(root).glob(f"{kind}-*/{INDEX}")]
    return sorted(found, key=lambda p: (p / INDEX).stat().st_mtime, reverse=True)


def _read_plan(path: Path) -> _Plan:
    try:
        return read_json(path / PLAN, _Plan)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}/{PLAN} is damaged ({error}); run ppgen verify on the directory") from error


def _read_pseudo(path: Path) -> FoundPseudo:
    plan = _read_plan(path)
    if plan.target is None:
        raise UserError(f"{path}/{PLAN} is damaged (it names no target); run ppgen verify on the directory")
    typed, target = plan.load and plan.load.target, plan.target
    return FoundPseudo(path, typed or target.name, target.labels_per_class, target.name, bool(typed))


def _asks_by_name(spec: str, name: str) -> bool:
    """Whether `spec` is the target's name, or `NAME=DIR`: the same data from any place."""
    return spec == name or spec.startswith(f"{name}=")
