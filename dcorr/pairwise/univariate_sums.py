r"""Orders of one-dimensional samples, and sums over the points that a point dominates.

For points :math:`(x_i, y_i)` and numbers ``f`` the dominance sums are

.. math:: D_i(f) = \sum_{j: x_j < x_i,\, y_j < y_i} f_j.

They take O(n log n): the points stand in the order of y and are divided by the bits of their x
rank, highest first, into blocks that keep that order. Where two points part, the one that goes to
the higher half has above it, in a running sum over the lower half, just what it dominates there.
Two bits are taken at a time, since moving the points costs more than summing. The last few bits
are pairs of neighbours, compared directly. Nothing waits for a device, and no step depends on
values, so there may be any number of problems side by side.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

# Points whose x ranks are in one leaf are compared pair by pair, 2 to the power of LEAF_BITS or
# fewer: four more passes of dividing them cost about twice as much.
LEAF_BITS = 4

# So many samples from one row on, torch sorts integers by their digits on the CPU, several times
# faster than it sorts anything else there; it does so for one row only.
RADIX_SAMPLES = 3000

# How many points went to each part of a block is held in one integer: so many bits for each of two
# or four parts, or, in large blocks, for three of four.
COUNT_BITS = {2: 32, 4: 16}
LARGE_COUNT_BITS = 21

# Where the number of a point's leaf begins, in an integer that also counts what it dominates.
PLACE = 32

# The sign bit, and the others, of the integer that shares its bits with a floating-point number.
INTEGERS = {
    torch.float32: (torch.int32, 31, 0x7FFFFFFF),
    torch.float64: (torch.int64, 63, 0x7FFFFFFFFFFFFFFF),
}


def sortable(x: Tensor) -> Tensor:
    """Return integers in the order of the numbers ``x``, equal where those are equal."""
    integer, sign_bit, others = INTEGERS[x.dtype]
    bits = (x + 0.0).view(integer)  # -0 and 0 are equal but have other bits
    return bits ^ ((bits >> sign_bit) & others)


def argsort(keys: Tensor) -> Tensor:
    """Return the stable order of the rows of integers, ``(B, N)``."""
    if keys.device.type != "cpu" or keys.shape[-1] < RADIX_SAMPLES or not len(keys):
        return keys.sort(stable=True).indices
    return torch.stack([row.sort(stable=True).indices for row in keys])


class JointOrder(NamedTuple):
    """The orders of points ``(x, y)`` by x and by y, each ``(B, N)``; ties by the other number."""

    by_x: Tensor
    by_y: Tensor
    ranks: Tensor
    """The places in the order of x of the points in the order of y."""
    heights: Tensor
    """The places in the order of y of the points in the order of x."""


def joint_order(x: Tensor, y: Tensor) -> JointOrder:
    """Order points, given as sortable integers ``(B, N)``, in both ways."""
    by_x = argsort(x)
    ranks = argsort(y.gather(-1, by_x))
    heights = inverse(ranks)
    by_y = by_x.gather(-1, ranks)
    ties = find_ties(x.gather(-1, by_x))
    if ties is not None:
        # Points of one x stand as they came so far; now each group takes the order of y.
        n = x.shape[-1]
        members = ties.members
        height = heights.take(members)
        again = (ties.groups * n + height).argsort()
        chosen, height = members[again], height[again]
        by_x.put_(members, by_x.take(chosen))
        heights.put_(members, height)
        place = members % n
        ranks.put_(members - place + height, place)
    return JointOrder(by_x, by_y, ranks, heights)


class Ties(NamedTuple):
    """Points, by their places in all rows ``(B, N)`` one after the other, that may have equals."""

    members: Tensor
    groups: Tensor
    """For each, a number of its group: the place of its first point."""
    ends: Tensor
    """For each, the place of the last point of its group."""


def find_ties(sorted_keys: Tensor) -> Ties | None:
    """Return which sorted integers ``(B, N)`` have equals, or ``None`` if known that none has."""
    tied = sorted_keys[..., 1:] == sorted_keys[..., :-1]
    first, last = (~pad(tied, side).flatten() for side in ((1, 0), (0, 1)))
    members = torch.arange(len(first), device=tied.device)
    if tied.device.type == "cpu":  # it may look, and ties are often few
        members = (~(first & last)).nonzero().squeeze(-1)
        if not len(members):
            return None
        first, last = first[members], last[members]
    groups = members.masked_fill(~first, 0).cummax(-1).values
    ends = members.masked_fill(~last, len(tied) * sorted_keys.shape[-1])
    return Ties(members, groups, ends.flip(-1).cummin(-1).values.flip(-1))


def inverse(order: Tensor) -> Tensor:
    """Return the inverse of the permutations ``(B, N)``."""
    places = torch.arange(order.shape[-1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(-1, order, places)


def dominance_sums(ranks: Tensor, heights: Tensor, columns: list[Tensor]) -> list[Tensor]:
    """Return how many points each dominates, and the sums of ``columns`` over those.

    Args:
        ranks: ``(B, N)``, the places in the order of x of the points in the order of y.
        heights: ``(B, N)``, the places in the order of y of the points in the order of x.
        columns: numbers ``(B, N)`` in the order of x.

    Returns:
        Counts and sums, each ``(B, N)``, in the order of x.
    """
    n = ranks.shape[-1]
    bits = max(0, (n - 1).bit_length() - LEAF_BITS)
    leaf = -(-n >> bits)  # of the smallest leaves that hold all points
    spare = (leaf << bits) - n
    if spare:  # points above all others in both orders are dominated by none
        last = torch.arange(n, n + spare, device=ranks.device).expand(len(ranks), -1)
        ranks, heights = (torch.cat([t, last], -1) for t in (ranks, heights))
        columns = [pad(column, (0, spare)) for column in columns]
    sums = _sums_in_leaves(heights, columns, leaf)
    if bits:
        passes = _Passes(ranks, columns, leaf, bits)
        passes.run()
        for total, part in zip(sums, passes.finish(), strict=True):
            total += part
    return [total[:, :n] for total in sums]


def _sums_in_leaves(heights: Tensor, columns: list[Tensor], leaf: int) -> list[Tensor]:
    """Return counts and sums over dominated points of the same leaf, given the ranks of y."""
    # Leaves go last, so that each step is a few operations on long rows.
    shape = heights.shape
    heights, *columns = (
        t.reshape(-1, leaf).mT.contiguous() for t in (heights.to(torch.int32), *columns)
    )
    sums = [torch.zeros_like(column) for column in (columns[0], *columns)]
    for apart in range(1, leaf):
        above = (heights[apart:] > heights[:-apart]).to(sums[0].dtype)
        sums[0][apart:] += above
        for total, column in zip(sums[1:], columns, strict=True):
            total[apart:].addcmul_(above, column[:-apart])
    return [total.mT.reshape(shape) for total in sums]


class _Passes:
    """The points of all problems in the order of y, divided by the bits of their leaves."""

    def __init__(self, ranks: Tensor, columns: list[Tensor], leaf: int, bits: int) -> None:
        self.shape = ranks.shape
        self.leaf = leaf
        self.bits = bits
        self.block = ranks.shape[-1]  # points of one block
        problem = torch.arange(len(ranks), device=ranks.device).unsqueeze(-1)
        source = (problem * self.block + ranks).flatten()
        self.columns = [column.flatten().index_select(0, source) for column in columns]
        self.sums = [torch.zeros_like(column) for column in self.columns]
        # From high to low bits: the problem, the leaf, the place in the leaf; and a count.
        leaves = ranks.div(leaf, rounding_mode="floor")
        place = (problem << bits | leaves) << LEAF_BITS | (ranks - leaves * leaf)
        self.points = place.flatten() << PLACE
        # What is moved changes places with these: fresh memory would cost more than the move.
        self.spare = {t.dtype: torch.empty_like(t) for t in (self.points, self.columns[0])}
        self.every = torch.arange(len(source), dtype=torch.int32, device=ranks.device)

    def run(self) -> None:
        """Divide down to the leaves."""
        left = self.bits
        while left:
            # Into four, but for an odd bit and where counts would be too large.
            large = self.block >> 2 >= 1 << LARGE_COUNT_BITS
            bits = 1 if left % 2 == 1 or large else 2
            left -= bits
            self.block >>= bits
            self._divide(left + LEAF_BITS + PLACE, 1 << bits)

    def finish(self) -> list[Tensor]:
        """Return counts and sums, each ``(B, N)``, in the order of x."""
        place = self.points >> PLACE
        counts = self.points.sub_(place << PLACE).to(self.columns[0].dtype)
        leaves = place >> LEAF_BITS
        place += leaves * (self.leaf - (1 << LEAF_BITS))
        sums = [counts, *self.sums]
        return [torch.empty_like(t).scatter_(0, place, t).view(self.shape) for t in sums]

    def _divide(self, shift: int, parts: int) -> None:
        """Divide each block by some bits of its points' leaves; the order in each part is kept.

        All first parts of blocks come first, then all second parts, and so on.
        """
        total = len(self.points)
        blocks = total // parts // self.block
        large = self.block >= 1 << COUNT_BITS[parts]
        width = LARGE_COUNT_BITS if large else COUNT_BITS[parts]
        part = (self.points >> shift).bitwise_and_(parts - 1)
        # Of each point's block, how many before it went to part 0, 1, ...
        one = torch.ones(parts, dtype=torch.int64, device=part.device)
        one <<= torch.arange(0, parts * width, width, device=part.device)
        if large:  # no room for the last part
            one[-1] = 0
        one = one.index_select(0, part)
        counts = one.view(blocks, parts * self.block).cumsum(-1).view(-1).sub_(one)
        target = torch.mul(part, width, out=one)
        target = torch.bitwise_right_shift(counts, target, out=target)
        target &= (1 << width) - 1
        if large:
            last = part == parts - 1
            own = last.view(blocks, parts * self.block).cumsum(-1).view(-1)
            target += own.sub_(1).mul_(last)
        target += part.mul_(total // parts)
        target.view(blocks, parts * self.block).add_(self._starts(blocks, self.block))
        source = torch.empty_like(self.every).scatter_(0, target, self.every)
        self.points, counts = self._moved(self.points, source), self._moved(counts, source)
        self.columns = [self._moved(column, source) for column in self.columns]
        self.sums = [self._moved(total, source) for total in self.sums]
        self._add(counts.view(parts, blocks, self.block), width)

    def _moved(self, values: Tensor, source: Tensor) -> Tensor:
        moved = torch.index_select(values, 0, source, out=self.spare[values.dtype])
        self.spare[values.dtype] = values
        return moved

    def _add(self, counts: Tensor, width: int) -> None:
        """Add, to the points of each part, the sums over what lies below them in lower parts."""
        parts, blocks, _ = counts.shape
        tables = [self._running(column, parts, blocks) for column in self.columns]
        starts = self._starts(blocks, self.block + 1)
        for high, packed in enumerate(counts):
            for low in range(high):
                count = (packed >> low * width).bitwise_and_((1 << width) - 1)
                self.points.view(parts, -1)[high] += count.view(-1)
                row = count.add_(starts).view(-1)
                for sums, table in zip(self.sums, tables, strict=True):
                    sums.view(parts, -1)[high] += table[low].index_select(0, row)

    def _running(self, column: Tensor, parts: int, blocks: int) -> Tensor:
        """Return the sums over the first 0, 1, ... points of each block, without the last part."""
        table = column.new_empty(parts - 1, blocks, self.block + 1)
        table[..., 0] = 0.0
        torch.cumsum(column.view(parts, blocks, self.block)[:-1], -1, out=table[..., 1:])
        return table.view(parts - 1, -1)

    def _starts(self, blocks: int, size: int) -> Tensor:
        device = self.points.device
        return torch.arange(0, blocks * size, size, device=device).unsqueeze(-1)
