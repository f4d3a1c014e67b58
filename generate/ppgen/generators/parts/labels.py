"""Soft labels: a probability row enters a network as the weighted mean of its class embeddings."""

from __future__ import annotations

import torch

from ppcore.classifiers import imagenet_class_names
from ppcore.errors import UserError


def embed(table: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
    """condition @ table in the table's dtype; for a one-hot row exactly the table's row.

    The sum runs in float64: TF32 and bfloat16 products would round the row.

    Args:
        table: (K or more, D), class embeddings; rows from K on (the null label) are left out.
        condition: float (B, K).

    Returns:
        (B, D).
    """
    rows = table[: condition.shape[1]].double()
    return (condition.to(rows.device, torch.float64) @ rows).to(table.dtype)


def check_condition(condition: torch.Tensor, seeds: torch.Tensor, num_classes: int) -> None:
    """Raise ValueError unless condition is floating (B, K) and seeds (B,): a caller's mistake, not a user's."""
    if condition.ndim != 2 or condition.shape[1] != num_classes or not condition.is_floating_point():
        raise ValueError(
            f"condition must be float (B, {num_classes}), got {condition.dtype} {tuple(condition.shape)}"
        )
    if seeds.shape != condition.shape[:1]:
        raise ValueError(f"seeds must be ({len(condition)},), got {tuple(seeds.shape)}")


def count_classes(
    rows: int, class_names: tuple[str, ...], asked: int | None, where: str
) -> tuple[int, int | None]:
    """(K, index of the null label or None) of an embedding table with `rows` rows.

    A table one row longer than the classes has the null label of classifier-free guidance as its last row.

    Args:
        asked: the sampling option `num_classes`.

    Raises:
        UserError: the table has fewer rows than classes, or more than one spare.
    """
    wanted = asked or len(class_names) or rows
    if rows not in (wanted, wanted + 1):
        raise UserError(
            f"{where} embeds {rows} classes but {wanted} are expected; expected {wanted} rows, or one more for the null label; "
            "set the sampling option num_classes"
        )
    return wanted, (wanted if rows == wanted + 1 else None)


def choose_names(asked: tuple[str, ...] | str, *others: tuple[str, ...]) -> tuple[str, ...]:
    """The first names there are: the sampling option `class_names`, then `others` in order.

    Args:
        asked: names, or `imagenet` for the names torchvision gives ImageNet's 1,000 classes, in the usual order.
    """
    if asked == "imagenet":
        return imagenet_class_names()
    given = (asked,) if isinstance(asked, str) else tuple(str(name) for name in asked)
    return next((names for names in (given, *others) if names), ())


def fit_names(class_names: tuple[str, ...], num_classes: int, where: str) -> tuple[str, ...]:
    """The names, or numbers when there are none. Raises UserError when there are more or fewer than classes."""
    if class_names and len(class_names) != num_classes:
        raise UserError(
            f"{where} has {num_classes} classes but {len(class_names)} class names; give one name a class"
        )
    return class_names or tuple(str(k) for k in range(num_classes))
