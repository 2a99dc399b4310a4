"""The ``reduction`` setting that all loss modules share."""

from __future__ import annotations

from torch import Tensor

from dcorr._checks import check_choice

REDUCTIONS = ("mean", "sum", "none")


def check_reduction(reduction: object) -> None:
    """Refuse what is not one of :data:`REDUCTIONS`."""
    check_choice("reduction", reduction, REDUCTIONS)


def reduce_batch(value: Tensor, reduction: str) -> Tensor:
    """Reduce one statistic per problem, shape ``batch``, over all its batch dimensions."""
    if reduction == "none":
        return value
    return value.mean() if reduction == "mean" else value.sum()
