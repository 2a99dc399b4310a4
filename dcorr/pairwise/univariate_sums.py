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

import torch
from torch import Tensor
from torch.nn.functional import pad

# Points whose x ranks are in one leaf are compared pair by pair, 2 to the power of LEAF_BITS or
# fewer: four more passes of dividing them cost about twice as much.
LEAF_BITS = 4

# So many samples from one row on, torch sorts integers by their digits on the CPU, several times
# faster than it sorts anything else there; it does so for one row only.
RADIX_SAMPLES = 3000

# Counts of up to three lower digits and of a point's own are held in one integer of 64 bits.
COUNT_BITS = {1: 32, 2: 16}

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


def joint_order(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Order the points ``(x, y)``, given as sortable integers ``(B, N)``, in both ways.

    Returns:
        The order by x, and by y among equal x; the order by y, and by x among equal y; and the
        ranks in the first order of the points in the second.
    """
    by_x = argsort(x)
    ranks = argsort(y.gather(-1, by_x))
    by_y = by_x.gather(-1, ranks)
    tied = ties(x.gather(-1, by_x))
    if tied is not None:
        # Points of one x stand as they came so far. In the order of y the groups are mixed, and a
        # stable sort takes them apart again, now ordered by y inside.
        again = argsort(pad((~tied).cumsum(-1), (1, 0)).gather(-1, ranks))
        by_x = by_y.gather(-1, again)
        ranks = inverse(again)
    return by_x, by_y, ranks


def ties(sorted_keys: Tensor) -> Tensor | None:
    """Return whether each but the first equals the one before, or ``None`` if known that none."""
    tied = sorted_keys[..., 1:] == sorted_keys[..., :-1]
    # The CPU may look, and ties cost a third sort.
    return None if tied.device.type == "cpu" and not tied.any() else tied


def inverse(order: Tensor) -> Tensor:
    """Return the inverse of the permutations ``(B, N)``."""
    places = torch.arange(order.shape[-1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(-1, order, places)


def dominance_sums(ranks: Tensor, columns: list[Tensor]) -> list[Tensor]:
    """Return how many points each dominates, and the sums of ``columns`` over those.

    Args:
        ranks: ``(B, N)``, the x ranks of the points in the order of y.
        columns: numbers ``(B, N)`` in the order of x.

    Returns:
        Counts and sums, each ``(B, N)``, in the order of x.
    """
    n = ranks.shape[-1]
    bits = max(0, (n - 1).bit_length() - LEAF_BITS)
    leaf = -(-n >> bits)  # of the smallest leaves that hold all points
    spare = (leaf << bits) - n
    if spare:  # points above all others in both orders are dominated by none
        last = torch.arange(n, n + spare, device=ranks.device)
        ranks = torch.cat([ranks, last.expand(len(ranks), -1)], -1)
        columns = [pad(column, (0, spare)) for column in columns]
    sums = _sums_in_leaves(inverse(ranks), columns, leaf)
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
    heights, *columns = (t.reshape(-1, leaf).mT.contiguous() for t in (heights, *columns))
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
        self.counts = torch.zeros_like(source)
        self.sums = [torch.zeros_like(column) for column in self.columns]
        # From high to low bits: the problem, the leaf, the place in the leaf.
        leaves = ranks.div(leaf, rounding_mode="floor")
        places = ((problem << bits | leaves) << LEAF_BITS | (ranks - leaves * leaf)).flatten()
        self.narrow = len(ranks) << (bits + LEAF_BITS) < 1 << 31
        self.places = places.to(torch.int32) if self.narrow else places

    def run(self) -> None:
        """Divide down to the leaves."""
        left = self.bits
        while left:
            # Into four, but for an odd bit and where counts would be too large.
            many = self.block >> 2 >= 1 << COUNT_BITS[2]
            bits = 1 if left % 2 == 1 or many else 2
            left -= bits
            self.block >>= bits
            self._add(self._divide(left + LEAF_BITS, bits), bits)

    def finish(self) -> list[Tensor]:
        """Return counts and sums, each ``(B, N)``, in the order of x."""
        leaves = self.places >> LEAF_BITS
        place = (leaves * self.leaf + (self.places & ((1 << LEAF_BITS) - 1))).long()
        sums = [self.counts.to(self.columns[0].dtype), *self.sums]
        return [torch.empty_like(t).scatter_(0, place, t).view(self.shape) for t in sums]

    def _divide(self, shift: int, bits: int) -> Tensor:
        """Divide each block by some bits of its points' places; the order in each part is kept.

        All first parts of blocks come first, then all second parts, and so on.

        Returns:
            For each point, how many points of its block stood before it and went to the parts 0,
            1, and so on: packed, COUNT_BITS each.
        """
        width, parts, total = COUNT_BITS[bits], 1 << bits, len(self.places)
        blocks = total // parts // self.block
        part = (self.places >> shift) & (parts - 1)
        ones = torch.ones(parts, dtype=torch.int64, device=part.device)
        ones <<= torch.arange(0, parts * width, width, device=part.device)
        one = ones.index_select(0, part)
        counts = one.view(blocks, parts * self.block).cumsum(-1).view(-1).sub_(one)
        part = part.long()
        target = (counts >> part * width).bitwise_and_((1 << width) - 1)
        target += part.mul_(total // parts)
        target.view(blocks, parts * self.block).add_(self._starts(blocks, self.block))
        every = torch.arange(total, device=part.device)
        source = torch.empty_like(target).scatter_(0, target, every)
        moved = [
            t.index_select(0, source)
            for t in (self.places, counts, self.counts, *self.columns, *self.sums)
        ]
        self.places, counts, self.counts, *moved = moved
        self.columns = moved[: len(self.columns)]
        self.sums = moved[len(self.columns) :]
        return counts

    def _add(self, counts: Tensor, bits: int) -> None:
        """Add, to the points of each part, the sums over what lies below them in lower parts."""
        width, parts = COUNT_BITS[bits], 1 << bits
        blocks = len(counts) // parts // self.block
        tables = [self._running(column, parts, blocks) for column in self.columns]
        starts = self._starts(blocks, self.block + 1)
        for high, packed in enumerate(counts.view(parts, -1)):
            for low in range(high):
                count = (packed >> low * width).bitwise_and_((1 << width) - 1)
                self.counts.view(parts, -1)[high] += count
                row = count.view(blocks, self.block).add_(starts).view(-1)
                for total, table in zip(self.sums, tables, strict=True):
                    total.view(parts, -1)[high] += table[low].index_select(0, row)

    def _running(self, column: Tensor, parts: int, blocks: int) -> Tensor:
        """Return the sums over the first 0, 1, ... points of each block, without the last part."""
        table = column.new_zeros(parts - 1, blocks, self.block + 1)
        torch.cumsum(column.view(parts, blocks, self.block)[:-1], -1, out=table[..., 1:])
        return table.view(parts - 1, -1)

    def _starts(self, blocks: int, size: int) -> Tensor:
        device = self.places.device
        return torch.arange(0, blocks * size, size, device=device).unsqueeze(-1)
