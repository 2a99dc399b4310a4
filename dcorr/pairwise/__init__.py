"""Sums over all pairs of samples: one differentiable operator, several backends."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dcorr import _checks
from dcorr.pairwise import reference

METHODS = ("auto", "dense")


class PairMoments(NamedTuple):
    r"""Weighted means over pairs of the doubly centred distances ``A`` and ``B`` of two samples.

    ``ab``, ``aa``, ``bb`` have shape ``batch``, the row means of the distances ``(*batch, n)``.
    """

    ab: Tensor
    aa: Tensor
    bb: Tensor
    a_rows: Tensor
    b_rows: Tensor


def pair_moments(
    x: Tensor,
    y: Tensor,
    *,
    exponent: float = 1.0,
    weights: Tensor | None = None,
    method: str = "auto",
) -> PairMoments:
    """Return the pair moments of two samples ``(*batch, n, p)`` and ``(*batch, n, q)``."""
    _checks.check_choice("method", method, METHODS)
    x, y = x.double(), y.double()
    weights = None if weights is None else weights.double()
    a, b = (_distances(t, exponent) for t in (x, y))
    return PairMoments(*reference.moments_of_distances(a, b, weights))


def _distances(x: Tensor, exponent: float) -> Tensor:
    if exponent == 1.0:
        # Direct differences; torch gives 0 as the derivative of the distance of coincident points.
        return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    return reference.distances(x, exponent)
