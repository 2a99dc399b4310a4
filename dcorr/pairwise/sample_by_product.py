"""Distances, and the pull along them, by matrix products; exact for near points all the same."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from dcorr.pairwise.sample import (
    PIECE,
    Distances,
    Near,
    Pairs,
    Sample,
    direct_distances,
)
from dcorr.pairwise.scratch import scratch

# |x|² + |y|² - 2 x·y is one matrix product, but it keeps few digits for near points: its error is
# about eps (|x|² + |y|²). Pairs whose squared distance is under this share of |x|² + |y|² are
# computed again from differences, which leaves the others a relative error of about eps / share.
# The share depends on the precision asked for and the one computed in.
NEAR = {
    (torch.float32, torch.float32): 1e-3,
    (torch.float32, torch.float64): 1e-9,
    (torch.float64, torch.float64): 1e-4,
}

# Where so many pairs of a float32 block are near, as in clusters, the whole block is multiplied
# again in float64.
MANY_NEAR = 1 / 32

# For so few points with so few features, differences cost no more than the product and the search
# for near pairs.
SMALL_BLOCK = 128 * 128 * 16


class SampleByProduct(Sample):
    """Distances from one matrix product, with the near pairs computed again from differences."""

    def __init__(self, x: Tensor, dtype: torch.dtype, name: str = "") -> None:
        super().__init__(x, dtype, name)
        self.near = NEAR[x.dtype, dtype]
        self._reaches: dict[tuple[int, int], float] = {}

    @cached_property
    def points(self) -> Tensor:
        """The points, scaled; in float64 no mean need be taken off those that came in float32."""
        return self.x if self.widened else self.scaled(self.centred)

    @cached_property
    def factors(self) -> tuple[Tensor, Tensor]:
        """What multiplies to squared distances: [x, 1, |x|²] and [-2x, |x|², 1], transposed."""
        return _factors(self.scaled(self.centred))

    @cached_property
    def factors_in_double(self) -> tuple[Tensor, Tensor]:
        """The same in float64."""
        x = self.x.to(torch.float64)
        x = x - x.mean(-2, keepdim=True)
        return _factors(x if self.scale is None else x / self.scale)

    @cached_property
    def _pulled(self) -> Tensor:
        """The sums of :math:`W_{ij} x_j` and, last, of :math:`W_{ij}`: ``(B, P + 1, N)``."""
        b, n, p = self.x.shape
        return self.x.new_zeros(b, p + 1, n)

    @cached_property
    def _grad(self) -> Tensor:
        return torch.zeros_like(self.x)

    def distances(self, rows: slice, columns: slice) -> Distances:
        """Return the distances of a block of pairs."""
        squared = self._multiply(self.factors, rows, columns)
        near = None
        # One pass for the smallest instead of a comparison of each. The comparison is False for
        # NaN, and for the zeros of a constant sample.
        smallest = squared.amin().item() if squared.numel() else torch.inf
        if not smallest > self.near * (self._reach(rows) + self._reach(columns)):
            squared, near = self._look_closer(squared, rows, columns)
        if rows == columns:
            squared.diagonal(dim1=-2, dim2=-1).zero_()
        return Distances(squared.sqrt_(), near)

    def all_distances(self) -> Tensor:
        """Return the distances of all pairs."""
        n, p = self.x.shape[-2:]
        if self.widened and n * n * p <= SMALL_BLOCK:
            return direct_distances(self.x, self.x)
        # As in `distances`, but the norms stand on the diagonal of the product, which has few
        # rows here: whatever is done to the points themselves costs more.
        points = self.scaled(self.centred)
        products = torch.bmm(points, points.mT)
        norms = products.diagonal(dim1=-2, dim2=-1).clone()
        squared = (norms.unsqueeze(-1) + norms.unsqueeze(-2)).sub_(products, alpha=2)
        diagonal = squared.diagonal(dim1=-2, dim2=-1)
        diagonal.fill_(torch.inf)
        every = slice(0, n)
        if norms.numel() and not squared.amin().item() > self.near * 2 * norms.amax().item():
            squared, _ = self._look_closer(squared, every, every)
            diagonal = squared.diagonal(dim1=-2, dim2=-1)
        diagonal.zero_()
        return squared.sqrt_()

    def rough_distances(self, rows: slice, columns: slice) -> Tensor:
        """Return the distances of a block of pairs, of near ones just 0."""
        left, right = self.factors
        squared = torch.bmm(left[..., rows].mT, right[..., columns])
        norms = left[:, -1]
        reach = norms[:, rows, None] + norms[:, None, columns]
        return squared.masked_fill_(squared < reach.mul_(self.near), 0.0).sqrt_()

    def pull_all(self, w: Tensor, d: Tensor, inverse: Tensor, factor: float = 1.0) -> Tensor:
        """Return the gradient of all pairs, times a factor, where no block has been pulled."""
        every = slice(0, w.shape[-1])
        if not w.numel():
            return torch.zeros_like(self.x)
        steepest = inverse.amax().item()
        if self.widened:
            # The product loses 1e-8 of the pull of the nearest pair, at most.
            safe = steepest * torch.linalg.vector_norm(self.points).item() < 1e8
        else:
            # The mean lies among the points, so none is further from it than from another point.
            safe = (steepest * d.amax().item()) ** 2 * self.near * 2 < 1.0
        if not safe:
            squared = inverse.reciprocal().square_()
            self.pull(w, self._find(squared, self.factors[0], every, every), every, every)
            return self.gradient().mul_(factor)
        totals = w.sum(-1, keepdim=True)
        if self.points.shape[-1] < w.shape[-1]:
            ends = totals * self.points
            return ends.baddbmm_(w, self.points, alpha=-1).mul_(factor)
        # diag(W 1) - W, in place: it has fewer numbers than the points.
        totals *= factor
        laplacian = w.mul_(-factor)
        laplacian.diagonal(dim1=-2, dim2=-1).add_(totals.squeeze(-1))
        return torch.bmm(laplacian, self.points)

    def pull(self, w: Tensor, near: Near | None, rows: slice, columns: slice) -> None:
        """Add the pull of a block of pairs to the gradient."""
        for pairs in () if near is None else near.pairs:
            force = self._differences(pairs, rows, columns).mul_(w[pairs].unsqueeze(-1))
            batch, i, j = pairs
            self._grad.index_put_((batch, i + rows.start), force, accumulate=True)
            if rows != columns:
                self._grad.index_put_((batch, j + columns.start), -force, accumulate=True)
            w = w.index_put(pairs, w.new_zeros(()))
        if near is not None and near.double:
            self._pull_in_double(w.to(torch.float64), rows, columns)
            return
        # Transposed: with few features this is up to several times faster.
        ends = self.factors[0][:, :-1]
        self._pulled[..., rows].baddbmm_(ends[..., columns], w.mT)
        if rows != columns:
            self._pulled[..., columns].baddbmm_(ends[..., rows], w)

    def gradient(self) -> Tensor:
        """Return the sum of all pulls."""
        p = self.x.shape[-1]
        sums, totals = self._pulled[:, :p], self._pulled[:, p:]
        ends = self.factors[0][:, :p]
        moved = torch.empty_like(self.x, memory_format=torch.contiguous_format)
        torch.addcmul(sums.neg_(), totals, ends, out=moved.mT)
        return moved.add_(self._grad) if "_grad" in self.__dict__ else moved

    def _pull_in_double(self, w: Tensor, rows: slice, columns: slice) -> None:
        points = self.factors_in_double[0][:, :-2].mT
        left, right = points[:, rows], points[:, columns]
        self._grad[:, rows] += w.sum(-1, keepdim=True) * left - w @ right
        if rows != columns:
            self._grad[:, columns] += w.sum(-2).unsqueeze(-1) * right - w.mT @ left

    def _look_closer(
        self, squared: Tensor, rows: slice, columns: slice
    ) -> tuple[Tensor, Near | None]:
        """Put the near pairs of a block right."""
        near = self._find(squared, self.factors[0], rows, columns)
        count = sum(len(pairs[0]) for pairs in near.pairs)
        if self.x.dtype == torch.float32 and count > MANY_NEAR * squared.numel():
            exact = self._multiply(self.factors_in_double, rows, columns)
            near = self._find(exact, self.factors_in_double[0], rows, columns)._replace(double=True)
            squared = exact.to(squared.dtype)
        for pairs in near.pairs:
            difference = self._differences(pairs, rows, columns)
            squared[pairs] = difference.square_().sum(-1)
        return squared, near

    def _multiply(self, factors: tuple[Tensor, Tensor], rows: slice, columns: slice) -> Tensor:
        """Return the squared distances of a block of pairs, the diagonal infinitely far."""
        left, right = factors[0][..., rows], factors[1][..., columns]
        shape = (left.shape[0], left.shape[-1], right.shape[-1])
        squared = scratch(f"squared {self.name}", shape, left)
        torch.bmm(left.mT, right, out=squared)
        if rows == columns:
            squared.diagonal(dim1=-2, dim2=-1).fill_(torch.inf)
        return squared

    def _find(self, squared: Tensor, factor: Tensor, rows: slice, columns: slice) -> Near:
        """Return the near pairs, in pieces whose differences fit in PIECE."""
        share = self.near if factor.dtype == self.x.dtype else NEAR[self.x.dtype, factor.dtype]
        norms = factor[:, -1]
        reach = norms[:, rows, None] + norms[:, None, columns]
        found = (squared < reach.mul_(share)).nonzero()
        pieces = torch.split(found, max(1, PIECE // self.x.shape[-1])) if len(found) else ()
        lists = [(piece[:, 0], piece[:, 1], piece[:, 2]) for piece in pieces]
        return Near(lists, double=False)

    def _reach(self, block: slice) -> float:
        """Return the largest |x|² of a block of points."""
        key = block.start, block.stop
        if key not in self._reaches:
            norms = self.factors[0][:, -1, block]
            self._reaches[key] = norms.amax().item() if norms.numel() else 0.0
        return self._reaches[key]

    def _differences(self, pairs: Pairs, rows: slice, columns: slice) -> Tensor:
        batch, i, j = pairs
        # From the points as they came: centring has rounded the others.
        difference: Tensor = self.x[batch, i + rows.start] - self.x[batch, j + columns.start]
        return difference if self.scale is None else difference.div_(self.scale[batch, 0])


def _factors(x: Tensor) -> tuple[Tensor, Tensor]:
    b, n, p = x.shape
    left, right = x.new_empty(2, b, p + 2, n).unbind()
    points, ones, norms = torch.split(left, [p, 1, 1], -2)
    points.copy_(x.mT)
    ones.fill_(1.0)
    torch.sum(torch.mul(points, points, out=right[:, :p]), -2, keepdim=True, out=norms)
    torch.mul(points, -2.0, out=right[:, :p])
    right[:, p : p + 1] = norms
    right[:, p + 1 :] = ones
    return left, right
