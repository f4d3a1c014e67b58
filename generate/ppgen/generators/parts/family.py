"""What every family shares: the generator protocol around one method, class names, soft labels, rounding to pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ppcore.classifiers import imagenet_class_names
from ppcore.errors import UserError
from ppgen.sources import Source, weights_sha256


class FamilyGenerator:
    """Base class of the families: implements :class:`ppgen.sources.Generator` around :meth:`sample_float`.

    Args:
        source: the resolved source.
        image_shape: (C, H, W) of the images; H = W.
        num_classes: K, width of a condition.
        class_names: K names; () numbers the classes.
        sampling: the sampling options as the plan records them.
        device: where the networks run.
        dtype: number type of the weights.
        weights: folders and files below `source.location` whose content identifies the weights.

    Attributes:
        class_tables: class embeddings that a soft label mixes, (K or more, D) each, see :func:`embed`; empty where none are mixed.
        compile_mode: how the networks run, see :func:`ppgen.generators.parts.networks.compile_network`.
        keep_norm: the sampling option of this name, see :func:`embed`.
        warnings: what the user should know before samples are made of it.

    Raises:
        UserError: the number of names is not the number of classes.
    """

    class_tables: Sequence[torch.Tensor] = ()
    compile_mode = "none"
    warnings: tuple[str, ...] = ()

    def __init__(
        self,
        source: Source,
        *,
        image_shape: tuple[int, int, int],
        num_classes: int,
        class_names: Sequence[str],
        sampling: dict[str, Any],
        device: torch.device,
        dtype: torch.dtype,
        weights: Sequence[str],
    ) -> None:
        if class_names and len(class_names) != num_classes:
            raise UserError(
                f"{source.spec} has {num_classes} classes but {len(class_names)} class names; give one name for each class"
            )
        self.num_classes = num_classes
        self.class_names = tuple(class_names) or tuple(str(k) for k in range(num_classes))
        self.channels, self.resolution, _ = image_shape
        self.licence, self.revision = source.licence, source.revision
        self.device = device
        self.keep_norm = bool(sampling.get("keep_norm"))
        self._description = {
            "family": source.family,
            "weights_sha256": weights_sha256(Path(source.location), *weights),
            "dtype": str(dtype).removeprefix("torch."),
            # Plans from before this option are without it.
            "sampling": {name: value for name, value in sampling.items() if name != "keep_norm" or value},
        }

    def sample_float(self, condition: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
        """The images before rounding.

        Args:
            condition: float (B, K), probability rows.
            seeds: int64 (B,); every random number of sample i comes from `seeds[i]`.

        Returns:
            float (B, C, H, W), nominally in [-1, 1], on the generator's device.
        """
        raise NotImplementedError

    def sample(self, condition: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
        """See :meth:`ppgen.sources.protocol.Generator.sample`."""
        return self.sample_checked(condition, seeds)[0]

    def sample_checked(
        self, condition: torch.Tensor, seeds: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See :func:`ppgen.sources.protocol.sample_checked`."""
        with torch.inference_mode():
            images = self.sample_float(condition, seeds).float()
            return to_uint8(images), is_bad(images)

    def norm_share(self, condition: torch.Tensor) -> float | None:
        """Mean norm of the embeddings of soft labels, float (N, K), as a share of the mean norm of the class embeddings in them.

        1 for one-hot rows and with `keep_norm`; None where no embeddings are mixed.
        """
        mixed = whole = 0.0
        for table in self.class_tables:
            norms = torch.linalg.vector_norm(table[: self.num_classes].double(), dim=1)
            whole += float((condition.to(norms) @ norms).mean())
            rows = embed(table, condition, self.keep_norm)
            mixed += float(torch.linalg.vector_norm(rows.double(), dim=1).mean())
        return mixed / whole if whole else None

    def describe(self) -> dict[str, Any]:
        """See :meth:`ppgen.sources.protocol.Generator.describe`."""
        return self._description


def is_bad(images: torch.Tensor) -> torch.Tensor:
    """Which images hold a NaN or an infinity: (B, C, H, W) -> bool (B,) on the same device, without waiting for the device.

    One sum over each image is enough: it is finite exactly when every pixel is finite and none is near 1e30.
    """
    return ~torch.isfinite(images.float().flatten(1).sum(dim=1))


def to_uint8(images: torch.Tensor) -> torch.Tensor:
    """[-1, 1] -> uint8 of the same shape and on the same device, rounded to nearest."""
    return images.float().mul(127.5).add_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def embed(table: torch.Tensor, condition: torch.Tensor, keep_norm: bool = False) -> torch.Tensor:
    """Class embeddings of soft labels: the weighted mean of the table's rows; for a one-hot row exactly that row.

    The sum runs in float64: products in TF32 and bfloat16 would round the row.

    Args:
        table: (K or more, D), class embeddings; rows from K on (the null label) are not used.
        condition: float (B, K).
        keep_norm: scale the mean to the weighted mean of the rows' norms. Without this it is shorter, since the rows point in different
            directions.

    Returns:
        (B, D) in the table's dtype.
    """
    rows = table[: condition.shape[1]].double()
    condition = condition.to(rows)
    mixed = condition @ rows
    if keep_norm:
        norms = condition @ torch.linalg.vector_norm(rows, dim=1, keepdim=True)  # (B, 1)
        mixed *= norms / torch.linalg.vector_norm(mixed, dim=1, keepdim=True).clamp_min(1e-30)
    return mixed.to(table.dtype)


def check_condition(condition: torch.Tensor, seeds: torch.Tensor, num_classes: int) -> None:
    """Raise ValueError unless condition is floating (B, K) and seeds is (B,). A caller's mistake, not a user's."""
    if condition.ndim != 2 or condition.shape[1] != num_classes or not condition.is_floating_point():
        raise ValueError(
            f"condition must be float (B, {num_classes}), got {condition.dtype} {tuple(condition.shape)}"
        )
    if seeds.shape != condition.shape[:1]:
        raise ValueError(f"seeds must be ({len(condition)},), got {tuple(seeds.shape)}")


def choose_names(option: tuple[str, ...] | str, *others: tuple[str, ...]) -> tuple[str, ...]:
    """Class names: the sampling option `class_names`, else the first non-empty one of `others`, else ().

    Args:
        option: names, or `imagenet` for ImageNet's 1,000 classes in torchvision's names and order.
    """
    if option == "imagenet":
        return imagenet_class_names()
    given = (option,) if isinstance(option, str) else tuple(str(name) for name in option)
    return next((names for names in (given, *others) if names), ())
