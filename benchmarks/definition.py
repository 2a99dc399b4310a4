"""Distance covariance by its definition, in float64 and in blocks: what every result must equal.

It shares no code with the package: distances from one matrix product each, both matrices doubly
centred block by block, the gradient by the closed form. O(n) memory and O(n²) time, so that it also
reaches the sizes at which no matrix fits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

# Numbers in a block: blocks of the distances of few rows to all columns.
BLOCK = 1 << 22

# The product keeps half the digits of points that all but coincide. In few dimensions there are
# such points, and differences are taken; in many, float64 has digits to spare.
FEW_FEATURES = 4


class Definition(NamedTuple):
    """The V-statistics of two samples, and the gradient of dCov²."""

    ab: float
    aa: float
    bb: float
    x_grad: Tensor
    y_grad: Tensor

    def value(self, quantity: str) -> float:
        """``dcov2``, ``dcov``, ``dcor2`` or ``dcor``."""
        squared = self.ab if quantity.startswith("dcov") else self.ab / math.sqrt(self.aa * self.bb)
        return squared if quantity.endswith("2") else math.sqrt(squared)


def define(x: Tensor, y: Tensor) -> Definition:
    r"""Return the definition's values for samples ``(n, p)`` and ``(n, q)``.

    With :math:`A_{ij} = a_{ij} - a_{i.} - a_{.j} + a_{..}` (means), dCov² is the mean of
    :math:`A_{ij} B_{ij}`, and since centring is a projection, its derivative with respect to
    :math:`a_{ij}` is :math:`B_{ij} / n^2`.
    """
    x, y = centred(x), centred(y)
    n = x.shape[0]
    a_rows, b_rows = (row_means(t) for t in (x, y))
    products, grads = (
        torch.zeros(3, dtype=torch.float64),
        (torch.zeros_like(x), torch.zeros_like(y)),
    )
    for rows in blocks(n):
        a, b = distances(x, rows), distances(y, rows)
        a_centred, b_centred = _centre(a, a_rows, rows), _centre(b, b_rows, rows)
        pairs = ((a_centred, b_centred), (a_centred, a_centred), (b_centred, b_centred))
        products += torch.stack([(s * t).sum() for s, t in pairs]).cpu()
        for grad, points, d, other in ((grads[0], x, a, b_centred), (grads[1], y, b, a_centred)):
            w = torch.where(d > 0, other / d, 0.0)
            grad[rows] = (2.0 / n / n) * pull(points, w, rows)
    ab, aa, bb = (products / n / n).tolist()
    return Definition(ab, aa, bb, *grads)


def gradient_at(x: Tensor, y: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of dCov² at some rows of one-dimensional samples, in O(n) a row."""
    x, y = centred(x), centred(y)
    means = [sorted_row_means(t[:, 0]) for t in (x, y)]
    n, grads = x.shape[0], []
    for k, (points, other) in enumerate(((x, y), (y, x))):
        b_rows = means[1 - k]
        b = (other[rows] - other[:, 0]).abs()
        b = b - b_rows[rows].unsqueeze(1) - b_rows + b_rows.mean()
        signs = torch.sign(points[rows] - points[:, 0])
        grads.append((2.0 / n / n) * (signs * b).sum(1, keepdim=True))
    return grads[0], grads[1]


def sorted_row_means(x: Tensor) -> Tensor:
    """Means of ``|x_i - x_j|`` over j, from the sorted numbers and their running sums."""
    ordered, order = x.sort()
    n, before = len(x), ordered.cumsum(0) - ordered
    rank = torch.arange(n, dtype=x.dtype, device=x.device)
    # Those before lie below, those from here on above.
    sums = rank * ordered - before + (ordered.sum() - before) - (n - rank) * ordered
    return torch.empty_like(x).index_put_((order,), sums / n)


def row_means(x: Tensor) -> Tensor:
    return torch.cat([distances(x, rows).mean(1) for rows in blocks(x.shape[0])])


def distances(x: Tensor, rows: slice) -> Tensor:
    """Distances of some points to all, ``(rows, n)``."""
    if x.shape[1] <= FEW_FEATURES:
        columns = x.unbind(1)
        squared = sum((c[rows, None] - c).square() for c in columns)
        return torch.as_tensor(squared).sqrt_()
    squares = x.square().sum(1)
    squared = squares[rows, None] + squares - 2 * (x[rows] @ x.T)
    # Rounding would give a point a small distance from itself.
    squared.diagonal(rows.start).zero_()
    return squared.clamp_min_(0).sqrt_()


def pull(x: Tensor, w: Tensor, rows: slice) -> Tensor:
    """Sum of ``w_ij (x_i - x_j)`` over j, for some rows."""
    if x.shape[1] <= FEW_FEATURES:
        return torch.stack([(w * (c[rows, None] - c)).sum(1) for c in x.unbind(1)], 1)
    return w.sum(1, keepdim=True) * x[rows] - w @ x


def blocks(n: int) -> Iterator[slice]:
    step = max(1, BLOCK // n)
    for first in range(0, n, step):
        yield slice(first, min(first + step, n))


def centred(x: Tensor) -> Tensor:
    x = x.detach().double()
    return x - x.mean(0)


def _centre(a: Tensor, means: Tensor, rows: slice) -> Tensor:
    return a - means[rows].unsqueeze(1) - means + means.mean()
