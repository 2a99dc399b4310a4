"""All pairs at once: both n by n matrices of distances are computed once and kept for backward."""

from __future__ import annotations

from torch import Tensor

from dcorr.pairwise.centring import Block, Moments, PairSums, Side, row_means
from dcorr.pairwise.pull import Incoming, pull_blocks


def forward(xs: list[Tensor], weights: Tensor | None, exponent: float, variances: bool) -> Moments:
    """Return the moments of one or two samples ``(B, N, P)`` and their distances."""
    every = slice(0, xs[0].shape[-2])
    sides = [Side(x, exponent) for x in xs]
    distances = [side.sample.distances(every, every) for side in sides]
    for side, d in zip(sides, distances, strict=True):
        side.shift_by(row_means(side.powers(d), weights), weights)
    sums = PairSums(sides, weights, variances)
    sums.add(Block(every, every, distances))
    return sums.moments(distances)


def backward(
    xs: list[Tensor],
    weights: Tensor | None,
    exponent: float,
    incoming: Incoming,
    wanted: list[bool],
    kept: list[Tensor],
) -> list[Tensor | None]:
    """Return the gradients of the samples and of the weights."""
    every = slice(0, xs[0].shape[-2])
    sides = [Side(x, exponent) for x in xs]
    return pull_blocks(sides, weights, incoming, wanted, [Block(every, every, kept)])
