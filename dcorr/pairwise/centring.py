r"""Sums over pairs of doubly centred distances, forwards and backwards, block by block.

With :math:`a_{ij} = |x_i - x_j|^\alpha`, means weighted by ``w`` (sum 1, else 1/n), row means ``r``
and their mean ``m``, every statistic is made of :math:`A_{ij} = a_{ij} - r_i - r_j + m`. Summing
raw distances and subtracting afterwards loses most digits, so blocks are shifted first:
:math:`a_{ij} - s_i - s_j` with any ``s`` near ``r - m/2``. What such a shift leaves is put right
in float64, exactly. The diagonal, where :math:`a_{ii} = 0`, would outweigh a whole row of small
numbers; blocks hold 0 there, and it is added in float64 too.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dcorr.pairwise.backend import Moments
from dcorr.pairwise.sample import Distances, Sample, wide
from dcorr.pairwise.scratch import scratch


class Block(NamedTuple):
    """A block of pairs, and its distances on each side."""

    rows: slice
    columns: slice
    distances: list[Distances]

    @property
    def mirrored(self) -> bool:
        """Whether the block also stands for its mirror image below the diagonal."""
        return self.rows != self.columns


class Side:
    """One of the two samples of a problem; its distances shifted by ``shift``, ``(B, N)``."""

    def __init__(self, sample: Sample, exponent: float) -> None:
        self.sample = sample
        self.exponent = exponent
        x = sample.x
        one = x.new_ones(x.shape[0], 1, 1) if sample.scale is None else sample.scale
        self.scale = one[..., 0].to(wide(x))  # (B, 1)
        self.unit = self.scale.pow(exponent)  # what the powers of distances are measured in
        self.shift = x.new_zeros(x.shape[:-1])

    def shift_by(self, rows: Tensor, weights: Tensor | None) -> None:
        """Shift by the row means ``rows``, or estimates of them, less half of their mean."""
        self.shift = (rows - mean(rows, weights).unsqueeze(-1) / 2).to(self.shift.dtype)

    def shifted(self, d: Tensor, block: Block, *, in_place: bool) -> Tensor:
        """Return the shifted powers of a block of distances, 0 on the diagonal."""
        a = powers(d, self.exponent)
        shift = self.shift[:, block.rows, None]
        if a is d and not in_place:
            a = torch.sub(a, shift, out=scratch(f"shifted {self.sample.name}", a.shape, a))
        else:
            a -= shift
        a -= self.shift[:, None, block.columns]
        if not block.mirrored:
            a.diagonal(dim1=-2, dim2=-1).zero_()
        return a


def shifted(sides: list[Side], block: Block, *, in_place: bool = False) -> list[Tensor]:
    """Return the shifted powers of the distances of a block, one matrix a side."""
    return [
        side.shifted(d, block, in_place=in_place)
        for side, (d, _) in zip(sides, block.distances, strict=True)
    ]


class PairSums:
    """Sums over all pairs of the products of the sides' shifted distances, and of their rows."""

    def __init__(self, sides: list[Side], weights: Tensor | None, variances: bool) -> None:
        self.sides = sides
        self.weights = weights
        first = sides[0].shift
        dtype = wide(first)
        self.rows = [torch.zeros_like(first, dtype=dtype) for _ in sides]  # (B, N)
        own = [(k, k) for k in range(len(sides))]
        pairs = ([(0, 1)] if len(sides) == 2 else []) + (own if variances else [])
        self.products = {pair: first.new_zeros(first.shape[0], dtype=dtype) for pair in pairs}

    def add(self, block: Block) -> None:
        """Add a block of pairs, and its mirror image where it stands for one."""
        matrices = shifted(self.sides, block, in_place=True)
        for total, a in zip(self.rows, matrices, strict=True):
            total[:, block.rows] += weighted_sum(a, self.weights, block.columns)
            if block.mirrored:
                total[:, block.columns] += weighted_sum(a.mT, self.weights, block.rows)
        for count, ((k, m), total) in enumerate(self.products.items(), start=1):
            # The last product needs no memory of its own, which would crowd the caches.
            last = count == len(self.products)
            product = matrices[k] if last else scratch("product", matrices[k].shape, matrices[k])
            torch.mul(matrices[k], matrices[m], out=product)
            by_row = weighted_sum(product, self.weights, block.columns)
            both = weighted_sum(by_row.to(total.dtype), self.weights, block.rows)
            total += 2 * both if block.mirrored else both

    def moments(self, kept: list[Tensor]) -> Moments:
        """Return the means of products of centred distances, and the row means of distances."""
        n = self.rows[0].shape[-1]
        dtype = self.rows[0].dtype
        weights = None if self.weights is None else self.weights.to(dtype)
        size: float | Tensor = n
        if weights is not None:  # as they were summed with: narrow ones do not quite sum to 1
            size = weights.sum(-1, keepdim=True)
            weights = weights / size
        share = 1.0 / n if weights is None else weights
        shifts = [side.shift.to(dtype) for side in self.sides]
        # Row means of the shifted distances: what they hold besides A, here with the diagonal -2s.
        left = [
            rows / size - 2 * share * shift for rows, shift in zip(self.rows, shifts, strict=True)
        ]
        means = {}
        for (k, m), off_diagonal in self.products.items():
            total = (off_diagonal.unsqueeze(-1) / size**2).squeeze(-1)
            diagonal = 4 * mean(share * shifts[k] * shifts[m], weights)
            excess = mean(left[k], weights) * mean(left[m], weights)
            excess = excess - 2 * mean(left[k] * left[m], weights)
            unit = (self.sides[k].unit * self.sides[m].unit)[:, 0]
            means[k, m] = (total + diagonal + excess) * unit
        rows = [
            (rest + shift + mean(shift, weights).unsqueeze(-1)) * side.unit
            for rest, shift, side in zip(left, shifts, self.sides, strict=True)
        ]
        return Moments(means, rows, kept)


def powers(d: Tensor, exponent: float) -> Tensor:
    """Return the distances to the power ``exponent``; this may be ``d`` itself."""
    if exponent == 1.0:
        return d
    return d.square() if exponent == 2.0 else d.pow(exponent)


def mean(values: Tensor, weights: Tensor | None) -> Tensor:
    """Return the (weighted) mean over the last dimension."""
    return values.mean(-1) if weights is None else (values * weights).sum(-1)


def weighted_sum(values: Tensor, weights: Tensor | None, columns: slice) -> Tensor:
    """Return the sum over the last dimension, weighted with the weights of those columns."""
    if weights is None:
        return values.sum(-1)
    w = weights[:, columns].to(values.dtype)
    return torch.einsum("b...j,bj->b...", values, w)
