"""Block by block: no n by n matrix is ever stored, and backward computes the blocks again."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, pairwise

import torch
from torch import Tensor

from dcorr._process_group import Team
from dcorr.pairwise.backend import Incoming, Moments
from dcorr.pairwise.centring import Block, PairSums, Side, mean, powers
from dcorr.pairwise.preparation import prepare
from dcorr.pairwise.pull import pull_blocks

# Rows of a block. On a CPU a block of float32 distances of both samples, and what is made of them,
# should stay in the cores' caches; elsewhere a block must be worth a launch. The memory needed does
# not depend on n.
ROWS = 512
ROWS_ELSEWHERE = 4096

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
    parts = [_forward(*part, exponent, variances, team) for part in _parts(samples, weights)]
    if len(parts) == 1:
        return parts[0]
    products = {pair: torch.cat([part.products[pair] for part in parts]) for pair in parts[0][0]}
    rows = [torch.cat(side) for side in zip(*(part.rows for part in parts), strict=True)]
    return Moments(products, rows, [])


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
    parts = []
    done = 0
    for part in _parts(samples, weights):
        of_part = slice(done, done + len(part[0][0]))
        done = of_part.stop
        parts.append(_backward(*part, exponent, _piece(incoming, of_part), wanted, team))
    if len(parts) == 1:
        return parts[0]
    return [
        torch.cat([grad for grad in grads if grad is not None]) if want else None
        for grads, want in zip(zip(*parts, strict=True), wanted, strict=True)
    ]


def keeps(samples: list[Tensor], exponent: float) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """Return that nothing is kept."""
    return []


def _forward(
    samples: list[Tensor],
    weights: Tensor | None,
    exponent: float,
    variances: bool,
    team: Team | None,
) -> Moments:
    points, weights = prepare(samples, weights)
    sides = [Side(sample, exponent) for sample in points]
    for side in sides:
        side.shift_by(_estimated_row_means(side, weights), weights)
    if team is not None:
        # The sums are put right for one shift, and no two machines need round alike.
        team.copy_first_([side.shift for side in sides])
    sums = PairSums(sides, weights, variances)
    for block in _blocks(sides, team):
        sums.add(block)
    if team is not None:
        team.sum_([*sums.rows, *sums.products.values()])
    return sums.moments([])


def _backward(
    samples: list[Tensor],
    weights: Tensor | None,
    exponent: float,
    incoming: Incoming,
    wanted: list[bool],
    team: Team | None,
) -> list[Tensor | None]:
    points, weights = prepare(samples, weights)
    sides = [Side(sample, exponent) for sample in points]
    return pull_blocks(sides, weights, incoming, wanted, _blocks(sides, team), team)


def _parts(
    samples: list[Tensor], weights: Tensor | None
) -> Iterator[tuple[list[Tensor], Tensor | None]]:
    """Yield as many problems of a batch at a time as make one block together."""
    size, n = samples[0].shape[:2]
    rows = _rows(samples[0])
    step = max(1, rows**2 // min(n, rows) ** 2)
    for first in range(0, max(size, 1), step):
        part = slice(first, first + step)
        yield [x[part] for x in samples], None if weights is None else weights[part]


def _piece(incoming: Incoming, part: slice) -> Incoming:
    return Incoming(
        {pair: g[part] for pair, g in incoming.products.items()},
        [None if u is None else u[part] for u in incoming.rows],
        [means[part] for means in incoming.row_means],
    )


def _rows(x: Tensor) -> int:
    return ROWS if x.device.type == "cpu" else ROWS_ELSEWHERE


def _blocks(sides: list[Side], team: Team | None) -> Iterator[Block]:
    """Yield the blocks of the upper triangle, or those dealt to this process."""
    n, size = sides[0].shift.shape[-1], _rows(sides[0].shift)
    blocks = _triangle(n, size)
    if team is not None:
        blocks = islice(_triangle(n, team.block(n, size)), team.rank, None, team.size)
    for rows, columns in blocks:
        yield Block(rows, columns, [side.sample.distances(rows, columns) for side in sides])


def _triangle(n: int, size: int) -> Iterator[tuple[slice, slice]]:
    # All blocks alike: the last of several would else be a sliver, as slow as a whole one.
    count = -(-n // size)
    edges = [n * k // count for k in range(count + 1)]
    cuts = [slice(start, stop) for start, stop in pairwise(edges)]
    for k, rows in enumerate(cuts):
        for columns in cuts[k:]:
            yield rows, columns


def _estimated_row_means(side: Side, weights: Tensor | None) -> Tensor:
    n, size = side.shift.shape[-1], _rows(side.shift)
    landmarks = slice(0, n, -(-n // LANDMARKS))
    if weights is not None:
        # What has no weight must not count: of a sample that is constant but for it, the shifted
        # distances are then exactly 0.
        w = weights[:, None, landmarks]
        total = w.sum(-1, keepdim=True)
        weights = torch.where(total > 0, w / total, 1.0 / w.shape[-1])
    means = []
    for top in range(0, n, size):
        d = side.sample.rough_distances(slice(top, min(top + size, n)), landmarks)
        means.append(mean(powers(d, side.exponent), weights))
    return torch.cat(means, -1)
