"""What `ppgen sources` shows: every kit with its size, licence and what an image costs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open

from ppcore.kits import Kit, list_kits
from ppgen.sources.licences import permits


@dataclass(frozen=True)
class Cost:
    """Counted with FLOP = 2 multiply-adds by `python benchmarks/generators.py --costs`.

    Attributes:
        parameters: of the networks that sampling runs.
        evaluation: GFLOP of one network evaluation.
        evaluations: evaluations an image at the defaults, a guided step counting two.
        decoding: GFLOP of decoding one image.
    """

    parameters: int
    evaluation: float
    evaluations: int
    decoding: float = 0.0

    @property
    def image(self) -> float:
        """GFLOP an image at the defaults."""
        return self.evaluations * self.evaluation + self.decoding


COSTS = {
    "dit-xl-2-256": Cost(799_316_663, 237.3, 26, 622.2),
    "dit-xl-2-512": Cost(799_316_663, 1049.2, 26, 2514.5),
    "cd-imagenet-64": Cost(295_899_267, 219.3, 1),
    "biggan-deep-256": Cost(55_880_833, 77.7, 1),
    "letters": Cost(2_596_676, 0.167, 4),
}


@dataclass(frozen=True)
class SourceRow:
    """One line of `ppgen sources`; None where nobody knows without the weights."""

    name: str
    family: str
    resolution: int
    channels: int
    classes: int
    licence: str
    commercial: bool
    parameters: int | None
    gflop: float | None
    description: str


def source_rows(allowed: tuple[str, ...] = ()) -> list[SourceRow]:
    """All kits whose licence is among `allowed` (see :func:`ppgen.sources.licences.permits`), the embedded one first."""
    return [_row(kit) for kit in list_kits() if permits(allowed, kit.licence, kit.commercial)]


def _row(kit: Kit) -> SourceRow:
    cost = COSTS.get(kit.name)
    return SourceRow(
        name=kit.name,
        family=kit.family,
        resolution=kit.resolution,
        channels=kit.channels,
        classes=len(kit.class_names) or 1000,  # only the ImageNet kits leave their names to their weights
        licence=kit.licence,
        commercial=kit.commercial,
        parameters=cost.parameters if cost else _stored_values(Path(kit.generator)),
        gflop=cost.image if cost else None,
        description=kit.description,
    )


def _stored_values(folder: Path) -> int | None:
    """Values in the safetensors files below a local directory, read from their headers."""
    files = list(folder.rglob("*.safetensors")) if folder.is_dir() else []
    return sum(_values(file) for file in files) or None


def _values(file: Path) -> int:
    with safe_open(file, framework="numpy") as tensors:
        return sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
