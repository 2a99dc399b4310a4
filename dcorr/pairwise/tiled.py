"""Block by block: no n by n matrix is ever stored, and backward computes the blocks again."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from dcorr.pairwise.centring import Block, Moments, PairSums, Side, powers
from dcorr.pairwise.pull import Incoming, pull_blocks
from dcorr.pairwise.sample import Sample

# Rows of a block. A block of float32 distances of both samples and what is made of them should
# stay in a core's cache; the memory needed does not depend on n.
ROWS = 256

# Columns from which the row means are estimated before the sums are taken. A bad estimate costs
# digits and no more: what it leaves is put right in float64.
LANDMARKS = 64


def forward(
    samples: list[Sample], weights: Tensor | None, exponent: float, variances: bool
) -> Moments:
    """Return the moments of one or two samples; nothing is kept."""
    sides = [Side(sample, exponent) for sample in samples]
    for side in sides:
        side.shift_by(_estimated_row_means(side), weights)
    sums = PairSums(sides, weights, variances)
    for block in _blocks(sides):
        sums.add(block)
    return sums.moments([])


def backward(
    samples: list[Sample],
    weights: Tensor | None,
    exponent: float,
    incoming: Incoming,
    wanted: list[bool],
    kept: list[Tensor],
) -> list[Tensor | None]:
    """Return the gradients of the samples and of the weights."""
    assert not kept
    sides = [Side(sample, exponent) for sample in samples]
    return pull_blocks(sides, weights, incoming, wanted, _blocks(sides))


def _blocks(sides: list[Side]) -> Iterator[Block]:
    """Yield the blocks of the upper triangle, with their distances."""
    n = sides[0].shift.shape[-1]
    for top in range(0, n, ROWS):
        rows = slice(top, min(top + ROWS, n))
        for left in range(top, n, ROWS):
            columns = slice(left, min(left + ROWS, n))
            yield Block(rows, columns, [side.sample.distances(rows, columns) for side in sides])


def _estimated_row_means(side: Side) -> Tensor:
    n = side.shift.shape[-1]
    landmarks = slice(0, n, -(-n // LANDMARKS))
    means = [
        powers(
            side.sample.distances(slice(top, min(top + ROWS, n)), landmarks), side.exponent
        ).mean(-1)
        for top in range(0, n, ROWS)
    ]
    return torch.cat(means, -1)
