"""What `ppgen sources` shows: every kit with its size, licence and cost; and which licences are allowed."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open

from ppcore.classifiers import published_class_names
from ppcore.errors import UserError
from ppcore.kits import KITS, Kit, get_kit, is_repository, list_kits
from ppgen.sources.models import is_cached

COMMERCIAL = "commercial"
"""The value of --allow-licence that allows every licence which permits commercial use."""

_PERMISSIVE = (
    "mit",
    "apache-2.0",
    "bsd-2-clause",
    "bsd-3-clause",
    "cc0-1.0",
    "cc-by-4.0",
    "cc-by-sa-4.0",
    "unlicense",
    "0bsd",
)


def allows_commercial_use(licence: str) -> bool:
    """Whether a licence (SPDX identifier) is known to permit commercial use; False for unknown ones."""
    return licence.lower() in _PERMISSIVE


def permits(allowed: Sequence[str], licence: str, commercial: bool) -> bool:
    """Whether `allowed` contains a licence: SPDX identifiers in any case, or `commercial`; an empty list allows all."""
    wanted = [word.lower() for word in allowed]
    return not wanted or licence.lower() in wanted or (COMMERCIAL in wanted and commercial)


_SHAREABLE = (
    *_PERMISSIVE,
    "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0",
    "openrail",
    "openrail++",
    "creativeml-openrail-m",
    "bigscience-openrail-m",
)
_KEPT = re.compile(
    r"(^|-)nd(-|$)|proprietary|all rights reserved|research.only|no.redistribution", re.IGNORECASE
)

Redistribution = Literal["allowed", "forbidden", "unknown"]


def redistribution(licence: str) -> Redistribution:
    """Whether samples made with weights under this licence may be shared, under the conditions of the licence."""
    if _KEPT.search(licence):
        return "forbidden"
    return "allowed" if licence.lower() in _SHAREABLE else "unknown"


def require_licence(source: str, licence: str, allowed: Sequence[str]) -> None:
    """Refuse a source whose licence is not in `allowed` (see :func:`permits`).

    Args:
        source: as typed; a kit states whether commercial use is allowed.
        licence: of the generator's weights.

    Raises:
        UserError: the licence is not allowed.
    """
    commercial = get_kit(source).commercial if source in KITS else allows_commercial_use(licence)
    if not permits(allowed, licence, commercial):
        raise UserError(
            f"the weights of {source} are under the licence {licence!r} and only {', '.join(allowed)} is allowed; choose another "
            "source from ppgen sources, or allow this licence with --allow-licence"
        )


@dataclass(frozen=True)
class Cost:
    """Cost of an image, counted by `python benchmarks/generators.py --costs`; a multiply-add counts as 2 FLOP.

    Attributes:
        parameters: number of parameters of the networks used in sampling.
        evaluation: GFLOP of one network evaluation.
        evaluations: network evaluations for an image with the default options; a guided step has two.
        decoding: GFLOP of decoding an image.
    """

    parameters: int
    evaluation: float
    evaluations: int
    decoding: float = 0.0

    @property
    def image(self) -> float:
        """GFLOP of an image with the default options."""
        return self.evaluations * self.evaluation + self.decoding


MATRIX_RATE = 777e12
"""FLOP/s of bfloat16 matrix products measured on one H200, whose arithmetic is an H100's (benchmarks/README.md)."""

_XL = 724_324_919  # parameters of SiT-XL/2 and the decoder
COSTS = {
    "dit-xl-2-256": Cost(799_316_663, 237.3, 26, 622.2),
    "dit-xl-2-512": Cost(799_316_663, 1049.2, 26, 2514.5),
    "sit-xl-2-256": Cost(_XL, 237.2, 29, 622.2),
    "repa-xl-2-256": Cost(724_306_471, 237.2, 29, 622.2),
    "lightningdit-xl-1-256": Cost(716_380_483, 237.2, 26, 252.2),
    # All scales count as one evaluation.
    "var-d16-256": Cost(375_114_755, 298.5, 2, 393.7),
    "var-d20-256": Cost(665_748_371, 571.6, 2, 393.7),
    "var-d24-256": Cost(1_098_230_595, 975.6, 2, 393.7),
    "var-d30-256": Cost(2_074_851_591, 1882.9, 2, 393.7),
    "var-d36-512": Cost(2_418_725_139, 11400.9, 2, 1582.9),
    "cd-imagenet-64": Cost(295_899_267, 219.3, 1),
    "biggan-deep-256": Cost(55_880_833, 77.7, 1),
    "letters": Cost(2_596_676, 0.167, 4),
}


def least_hours(gflop: float, images: int) -> float:
    """Hours that no run on one H100 or H200 can beat.

    Args:
        gflop: of an image.
    """
    return images * gflop * 1e9 / MATRIX_RATE / 3600


def has_weights(kit: Kit) -> bool:
    """Whether the weights of a kit are on this machine; of a repository that is one model, whether its index is."""
    if not is_repository(kit.generator):
        return Path(kit.generator).is_dir()
    return is_cached(kit.generator, kit.revision, kit.files or ("model_index.json",))


class ListedGenerator:
    """What the catalogue knows of a kit's generator, for a plan without the weights. It cannot sample."""

    def __init__(self, kit: Kit, sampling: Mapping[str, Any]) -> None:
        self.class_names = kit.class_names or published_class_names(kit.classifier)
        self.num_classes = len(self.class_names)
        self.resolution, self.channels = kit.resolution, kit.channels
        self.licence, self.revision = kit.licence, kit.revision or "unknown"
        self._description = {"family": kit.family, "sampling": {**kit.sampling, **sampling}}

    def sample(self, condition: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
        """Raise RuntimeError: there are no weights."""
        raise RuntimeError("a source of the catalogue has no weights")

    def describe(self) -> dict[str, Any]:
        """See :meth:`ppgen.sources.protocol.Generator.describe`."""
        return self._description


@dataclass(frozen=True)
class SourceRow:
    """One line of `ppgen sources`; `parameters` and `gflop` (of an image) are None if they are unknown without the weights."""

    kit: Kit
    classes: int
    parameters: int | None
    gflop: float | None


def source_rows(allowed: tuple[str, ...] = ()) -> list[SourceRow]:
    """All kits whose licence is allowed (see :func:`permits`), the embedded one first."""
    return [_row(kit) for kit in list_kits() if permits(allowed, kit.licence, kit.commercial)]


def _row(kit: Kit) -> SourceRow:
    cost = COSTS.get(kit.name)
    parameters = cost.parameters if cost else _stored_values(Path(kit.generator))
    classes = len(kit.class_names) or 1000  # only the ImageNet kits have no names in the kit
    return SourceRow(kit, classes, parameters, cost.image if cost else None)


def _stored_values(folder: Path) -> int | None:
    """Number of values in the safetensors files below a directory, from their headers; None if there are none."""
    files = list(folder.rglob("*.safetensors")) if folder.is_dir() else []
    return sum(_values(file) for file in files) or None


def _values(file: Path) -> int:
    with safe_open(file, framework="numpy") as tensors:
        return sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
