"""The definitions in plain loops and in Python's own float64, and samples to try them on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from scipy.spatial.distance import cdist, pdist, squareform
from torch import Tensor

Matrix = list[list[float]]


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers, the same for the same seed in every dtype up to rounding."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


# -- loops ----------------------------------------------------------------------------------------


def distances(x: Tensor, exponent: float = 1.0) -> Matrix:
    rows = x.double().tolist()
    return [
        [math.sqrt(sum((s - t) ** 2 for s, t in zip(u, v, strict=True))) ** exponent for v in rows]
        for u in rows
    ]


def centred(a: Matrix, w: Sequence[float]) -> Matrix:
    n = range(len(a))
    rows = [sum(w[j] * a[i][j] for j in n) for i in n]
    total = sum(w[i] * rows[i] for i in n)
    return [[a[i][j] - rows[i] - rows[j] + total for j in n] for i in n]


def u_centred(a: Matrix) -> Matrix:
    """Székely and Rizzo 2014, Definition 2."""
    size = len(a)
    n = range(size)
    rows = [sum(a[i]) for i in n]
    total = sum(rows) / ((size - 1) * (size - 2))
    return [
        [0.0 if i == j else a[i][j] - (rows[i] + rows[j]) / (size - 2) + total for j in n]
        for i in n
    ]


def inner(a: Matrix, b: Matrix) -> float:
    """The inner product of U-centred matrices, Székely and Rizzo 2014, Proposition 1."""
    size = len(a)
    n = range(size)
    return sum(a[i][j] * b[i][j] for i in n for j in n if i != j) / (size * (size - 3))


def dcov2(
    x: Tensor,
    y: Tensor,
    *,
    unbiased: bool = False,
    exponent: float = 1.0,
    weights: Tensor | None = None,
) -> float:
    a, b = distances(x, exponent), distances(y, exponent)
    if unbiased:
        return inner(u_centred(a), u_centred(b))
    size = len(a)
    w = [1.0 / size] * size if weights is None else weights.double().tolist()
    w = [v / sum(w) for v in w]
    a, b = centred(a, w), centred(b, w)
    n = range(size)
    return sum(w[i] * w[j] * a[i][j] * b[i][j] for i in n for j in n)


def dcor2(
    x: Tensor,
    y: Tensor,
    *,
    unbiased: bool = False,
    exponent: float = 1.0,
    weights: Tensor | None = None,
) -> float:
    xy, xx, yy = (
        dcov2(s, t, unbiased=unbiased, exponent=exponent, weights=weights)
        for s, t in ((x, y), (x, x), (y, y))
    )
    return xy / math.sqrt(xx * yy) if xx > 0 and yy > 0 else 0.0


def projected(x: Tensor, z: Tensor, exponent: float = 1.0) -> Matrix:
    """The U-centred matrix of x, with that of z projected out."""
    a, c = u_centred(distances(x, exponent)), u_centred(distances(z, exponent))
    share = inner(a, c) / inner(c, c)
    n = range(len(a))
    return [[a[i][j] - share * c[i][j] for j in n] for i in n]


def pdcov2(x: Tensor, y: Tensor, z: Tensor, *, exponent: float = 1.0) -> float:
    return inner(projected(x, z, exponent), projected(y, z, exponent))


def pdcor(x: Tensor, y: Tensor, z: Tensor, *, exponent: float = 1.0) -> float:
    a, b = projected(x, z, exponent), projected(y, z, exponent)
    return inner(a, b) / math.sqrt(inner(a, a) * inner(b, b))


# -- matrices -------------------------------------------------------------------------------------


def matrices_dcov2(x: Tensor, y: Tensor, *, unbiased: bool = False, exponent: float = 1.0) -> float:
    """dCov² from scipy's distances, for samples too many for loops."""
    a = squareform(pdist(x.double().numpy())) ** exponent
    b = cdist(y.double().numpy(), y.double().numpy()) ** exponent
    n = len(a)
    if not unbiased:
        a, b = (m - m.mean(0) - m.mean(1)[:, None] + m.mean() for m in (a, b))
        return float((a * b).mean())
    a_rows, b_rows = a.sum(0), b.sum(0)
    first = (a * b).sum() / n / (n - 3)
    second = 2.0 * (a_rows @ b_rows) / n / (n - 2) / (n - 3)
    third = a_rows.sum() * b_rows.sum() / n / (n - 1) / (n - 2) / (n - 3)
    return float(first - second + third)
