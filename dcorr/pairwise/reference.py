"""The dense definition in plain torch operations: what every backend must reproduce.

Nothing here is fast: all differences are laid out, ``n * n * p`` numbers. It is differentiable any
number of times, which makes it the backward of the backward of every backend.
"""

from __future__ import annotations

import torch
from torch import Tensor


def distances(x: Tensor, exponent: float) -> Tensor:
    r"""Return :math:`|x_i - x_j|^\alpha`, shape ``(*batch, n, n)``, with derivative 0 where it is 0."""
    squared = (x.unsqueeze(-2) - x.unsqueeze(-3)).square().sum(-1)  # (*batch, N, N)
    if exponent == 2.0:
        return squared
    coincident = squared == 0  # False for NaN, which must stay NaN
    # Both branches of a `where` are differentiated, so the root must not see the zeros at all.
    powered = torch.where(coincident, 1.0, squared).pow(exponent / 2)
    return torch.where(coincident, 0.0, powered)


def moments_of_distances(
    a: Tensor, b: Tensor, weights: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    r"""Return the pair moments of two ``(*batch, n, n)`` matrices of distances.

    With weights :math:`w` of sum 1 (:math:`1/n` where there are none), row means :math:`r = a w` and
    :math:`A_{ij} = a_{ij} - r_i - r_j + w \cdot r`:

    :returns: :math:`w^T (A \circ B) w`, :math:`w^T (A \circ A) w`, :math:`w^T (B \circ B) w`, each of
        shape ``batch``, and the row means of ``a`` and of ``b``, each ``(*batch, n)``.
    """
    if weights is None:
        weights = a.new_full(a.shape[-1:], 1.0 / a.shape[-1])
    a_rows = (a * weights.unsqueeze(-2)).sum(-1)
    b_rows = (b * weights.unsqueeze(-2)).sum(-1)
    a, b = (_centre(m, rows, weights) for m, rows in ((a, a_rows), (b, b_rows)))
    pairs = weights.unsqueeze(-1) * weights.unsqueeze(-2)  # (*batch, N, N)
    ab, aa, bb = ((pairs * m).sum((-2, -1)) for m in (a * b, a * a, b * b))
    return ab, aa, bb, a_rows, b_rows


def _centre(a: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    mean = (rows * weights).sum(-1)[..., None, None]
    return a - rows.unsqueeze(-1) - rows.unsqueeze(-2) + mean


def pair_moments(
    x: Tensor, y: Tensor, weights: Tensor | None, exponent: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the pair moments of two samples ``(*batch, n, p)`` and ``(*batch, n, q)``."""
    return moments_of_distances(distances(x, exponent), distances(y, exponent), weights)
