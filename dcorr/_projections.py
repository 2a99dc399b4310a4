r"""Distance covariances of projections on random lines, which average to that of the samples.

For directions drawn uniformly on the unit spheres and independently of each other,

.. math:: \mathrm{dCov}^2(x, y) = C_p C_q\, \mathrm{E}\, \mathrm{dCov}^2(\theta^T x, \phi^T y),
    \qquad C_p = \frac{\sqrt\pi\, \Gamma((p + 1) / 2)}{\Gamma(p / 2)},

since :math:`|x| = C_p\, \mathrm{E}\, |\theta^T x|`. This holds for the samples themselves, for the
biased as well as for the unbiased statistic.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dcorr._checks import check_generator, without_autocast
from dcorr.pairwise import PairMoments, pair_moments
from dcorr.pairwise.sample import wide

# So many numbers of projected samples are worked on at once. More are taken in pieces, and the
# backward pass computes those again instead of keeping them.
PIECE = 1 << 22

Statistic = Callable[[PairMoments], Tensor]


class Draw(NamedTuple):
    """How many random directions to draw, and from what."""

    number: int
    generator: torch.Generator | None

    def directions(self, x: Tensor) -> Tensor:
        """Draw directions for the features of ``x``, uniform on the sphere: ``(K, P)``."""
        check_generator(self.generator, x.device)
        size = (self.number, x.shape[-1])
        normal = torch.randn(size, generator=self.generator, dtype=x.dtype, device=x.device)
        length: Tensor = torch.linalg.vector_norm(normal, dim=-1, keepdim=True)
        return normal / length


def moments(
    x: Tensor,
    y: Tensor | None,
    weights: Tensor | None,
    draw: Draw,
    covariance: Statistic,
    variance: Statistic,
    variances: bool,
) -> PairMoments:
    """Return estimates of dCov² and, if wanted, of dVar²; there are no row means of lines.

    A variance is the covariance of projections of one sample on two directions.
    """
    lines = [(t, draw.directions(t)) for t in (x, y) if t is not None]
    found: dict[str, Tensor] = {}
    if y is not None:
        found["ab"] = covariances(*lines[0], *lines[1], weights, covariance).mean(0)
    if variances:
        for name, (t, theta) in zip(("aa", "bb"), lines, strict=False):
            other = draw.directions(t)
            found[name] = covariances(t, theta, t, other, weights, variance).mean(0)
    aa = found.get("aa")
    none = x.new_empty(0)
    if y is None:
        assert aa is not None
        return PairMoments(aa, aa, aa, none, none)
    return PairMoments(found["ab"], aa, found.get("bb"), none, none)


def covariances(
    x: Tensor,
    theta: Tensor,
    y: Tensor,
    phi: Tensor,
    weights: Tensor | None,
    statistic: Statistic,
) -> Tensor:
    """Return an unbiased estimate of a statistic of the samples for each pair of directions.

    Args:
        x: ``(*batch, n, p)``.
        theta: directions ``(K, p)``.
        y: ``(*batch, n, q)``.
        phi: directions ``(K, q)``, independent of ``theta``.
        weights: ``(*batch, n)`` with sum 1, or ``None``.
        statistic: dCov², from the pair moments of projections ``(K, *batch, n, 1)``.

    Returns:
        ``(K, *batch)``, in float64 where the device has it.
    """
    x, y = (t - t.mean(-2, keepdim=True) for t in (x.to(wide(x)), y.to(wide(y))))

    def piece(x: Tensor, y: Tensor, weights: Tensor | None, some: slice) -> Tensor:
        with without_autocast(x):
            lines = [_projected(t, d[some], d.dtype) for t, d in ((x, theta), (y, phi))]
        w = None if weights is None else weights.expand(lines[0].shape[:-1])
        return statistic(pair_moments(*lines, weights=w, method="univariate", variances=False))

    at_once = max(1, PIECE // max(1, x[..., 0].numel()))
    factor = _mean_shortening(x.shape[-1]) * _mean_shortening(y.shape[-1])
    if len(theta) <= at_once:
        return factor * piece(x, y, weights, slice(None))
    pieces = [slice(k, k + at_once) for k in range(0, len(theta), at_once)]
    found = [
        checkpoint(piece, x, y, weights, some, use_reentrant=False, preserve_rng_state=False)
        for some in pieces
    ]
    return factor * torch.cat(found)


def _projected(x: Tensor, theta: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the projections on all directions, ``(K, *batch, N, 1)``, in ``dtype``."""
    # The product is exact enough that rounding it to float32 leaves coincident points coincident.
    lines = x @ theta.mT.to(x.dtype)
    return lines.movedim(-1, 0).unsqueeze(-1).to(dtype)


def _mean_shortening(p: int) -> float:
    """Return C: how many times longer a vector of p features is than its mean projection."""
    return math.sqrt(math.pi) * math.exp(math.lgamma((p + 1) / 2) - math.lgamma(p / 2))
