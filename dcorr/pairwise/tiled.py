"""Block by block: no n by n matrix is ever stored, and backward computes the blocks again."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor

from dcorr._process_group import Team
from dcorr.pairwise.backend import Incoming, Moments
from dcorr.pairwise.centring import Block, PairSums, Side, powers
from dcorr.pairwise.pull import pull_blocks
from dcorr.pairwise.sample import prepare

# Rows of a block. A block of float32 distances of both samples and what is made of them should
# stay in a core's cache; the memory needed does not depend on n.
ROWS = 256

# Columns from which the row means are estimated before the sums are taken. A bad estimate costs
# digits and no more: what it leaves is put right in float64.
LANDMARKS = 64


def forward(
    samples: list[Tensor],
    weights: Tensor | None,
    exponent: float,
    variances: bool,
    team: Team | None = None,
) -> Moments:
    """Return the moments of one or two samples; nothing is kept. A team deals out the blocks."""
    points, weights = prepare(samples, weights)
    sides = [Side(sample, exponent) for sample in points]
    for side in sides:
        side.shift_by(_estimated_row_means(side), weights)
    if team is not None:
        # The sums are put right for one shift, and no two machines need round alike.
        team.copy_first_([side.shift for side in sides])
    sums = PairSums(sides, weights, variances)
    for block in _blocks(sides, team):
        sums.add(block)
    if team is not None:
        team.sum_([*sums.rows, *sums.products.values()])
    return sums.moments([])


def backward(
    samples: list[Tensor],
    weights: Tensor | None,
    exponent: float,
    incoming: Incoming,
    wanted: list[bool],
    kept: list[Tensor],
    team: Team | None = None,
) -> list[Tensor | None]:
    """Return the gradients of the samples and of the weights; in a team, one term of theirs."""
    assert not kept
    points, weights = prepare(samples, weights)
    sides = [Side(sample, exponent) for sample in points]
    return pull_blocks(sides, weights, incoming, wanted, _blocks(sides, team), team)


def _blocks(sides: list[Side], team: Team | None) -> Iterator[Block]:
    """Yield the blocks of the upper triangle, or those dealt to this process."""
    n = sides[0].shift.shape[-1]
    blocks = _triangle(n, ROWS)
    if team is not None:
        blocks = islice(_triangle(n, team.block(n, ROWS)), team.rank, None, team.size)
    for rows, columns in blocks:
        yield Block(rows, columns, [side.sample.distances(rows, columns) for side in sides])


def _triangle(n: int, size: int) -> Iterator[tuple[slice, slice]]:
    for top in range(0, n, size):
        for left in range(top, n, size):
            yield slice(top, min(top + size, n)), slice(left, min(left + size, n))


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


def keeps(samples: list[Tensor], exponent: float) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """Return that nothing is kept."""
    return []
