"""Distances between the points of a sample, exact for near points, and the pull along them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

# |x|² + |y|² - 2 x·y is one matrix product, but it keeps few digits for near points: its error is
# about eps (|x|² + |y|²). Pairs whose squared distance is under this share of |x|² + |y|² are
# computed again from differences, which leaves the others a relative error of about eps / share.
NEAR = {torch.float32: 1e-2, torch.float64: 1e-4}

# Up to so many samples, or so many if they have few features, all is computed in float64, whatever
# came. There are too few pairs for roundings to average out, and it costs next to nothing.
FEW_SAMPLES = 64
SOME_SAMPLES, SOME_FEATURES = 256, 128

# Where a floating-point number keeps its exponent: the integer of its width, and the mask.
EXPONENT_BITS = {
    torch.float32: (torch.int32, 0x7F800000),
    torch.float64: (torch.int64, 0x7FF0000000000000),
}

# With so few features differences cost no more than the product.
FEW_FEATURES = 2

# Numbers that differences of pairs may hold at once: many pairs must not need much memory.
PIECE = 1 << 20


def wide(t: Tensor) -> torch.dtype:
    """Return the dtype for sums over many pairs: float64 where the device has it."""
    return torch.float32 if t.device.type == "mps" else torch.float64


def work_dtype(points: list[Tensor]) -> torch.dtype:
    """Return the dtype to compute the distances of samples ``(B, N, P)`` in."""
    x = points[0]
    n, features = x.shape[-2], sum(t.shape[-1] for t in points)
    few = n <= FEW_SAMPLES or (n <= SOME_SAMPLES and features <= SOME_FEATURES)
    return wide(x) if few else x.dtype


def prepare(points: list[Tensor], weights: Tensor | None) -> tuple[list[Sample], Tensor | None]:
    """Return samples and weights in the dtype to compute in."""
    dtype = work_dtype(points)
    samples = [form_of(x)(x, dtype) for x in points]
    return samples, None if weights is None else weights.to(dtype)


def form_of(x: Tensor) -> type[Sample]:
    """Return the form of a sample ``(B, N, P)`` whose distances are cheapest on its device."""
    # The near pairs of a product are a list of unknown length, and to ask another device for its
    # length stops the pipeline: only the CPU may look.
    by_product = x.device.type == "cpu" and x.shape[-1] > FEW_FEATURES
    return SampleByProduct if by_product else SampleByDifferences


class Sample(ABC):
    """Points ``(B, N, P)`` in units of ``scale``, a power of two near the largest deviation.

    In these units squares neither overflow nor vanish. Dividing by a power of two is exact, so
    coincident points stay coincident and no digit is lost. Squares of float32 numbers have room in
    float64 as they are: there ``scale`` is ``None``.
    """

    def __init__(self, x: Tensor, dtype: torch.dtype) -> None:
        self.x = x.to(dtype)
        self.centred = self.x - self.x.mean(-2, keepdim=True)
        # From the first point and not the mean, whose rounding depends on the machine: several
        # processes sum in one unit, and a mean near a power of two would give them two.
        scaled = x.dtype == dtype
        self.scale = _power_of_two(self.x - self.x[:, :1]) if scaled else None  # (B, 1, 1)

    def scaled(self, values: Tensor) -> Tensor:
        """Return lengths in units of ``scale``."""
        return values if self.scale is None else values / self.scale

    @abstractmethod
    def distances(self, rows: slice, columns: slice) -> Tensor:
        """Return the distances ``(B, rows, columns)`` of a block of pairs; coincident points: 0."""

    @abstractmethod
    def pull(self, grad: Tensor, w: Tensor, d: Tensor, rows: slice, columns: slice) -> None:
        r"""Add :math:`\sum_j W_{ij} (x_i - x_j)` over a block of pairs to ``grad``, ``(B, N, P)``.

        ``w`` and ``d`` are the block's weights and distances. Off the diagonal the block also
        stands for its mirror image: the pairs pull at both of their ends.
        """


class SampleByDifferences(Sample):
    """Distances from the differences of all pairs: exact, without looking at any value."""

    def __init__(self, x: Tensor, dtype: torch.dtype) -> None:
        super().__init__(x, dtype)
        self.points = self.scaled(self.x)

    def distances(self, rows: slice, columns: slice) -> Tensor:
        """Return the distances of a block of pairs."""
        if self.points.shape[-1] > FEW_FEATURES:
            left, right = self.points[:, rows], self.points[:, columns]
            return torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist")
        squares = [d.square_().sum(1) for _, d in self._differences(rows, columns)]
        return sum(squares[1:], start=squares[0]).sqrt_()

    def pull(self, grad: Tensor, w: Tensor, d: Tensor, rows: slice, columns: slice) -> None:
        """Add the pull of a block of pairs to ``grad``."""
        for features, difference in self._differences(rows, columns):
            forces = difference.mul_(w.unsqueeze(1))
            grad[:, rows, features] += forces.sum(-1).mT
            if rows != columns:
                grad[:, columns, features] -= forces.sum(-2).mT

    def _differences(self, rows: slice, columns: slice) -> Iterator[tuple[slice, Tensor]]:
        """Yield differences ``(B, features, rows, columns)`` of a few features at a time."""
        left, right = self.points[:, rows].mT, self.points[:, columns].mT
        size = left.shape[0] * left.shape[-1] * right.shape[-1]
        step = max(1, PIECE // max(1, size))
        for first in range(0, left.shape[1], step):
            features = slice(first, first + step)
            yield features, left[:, features, :, None] - right[:, features, None, :]


class SampleByProduct(Sample):
    """Distances from one matrix product, with the near pairs computed again from differences."""

    def __init__(self, x: Tensor, dtype: torch.dtype) -> None:
        super().__init__(x, dtype)
        self.points = self.scaled(self.centred)
        self.norms = self.points.square().sum(-1)  # (B, N)
        self.near = NEAR[dtype]

    def distances(self, rows: slice, columns: slice) -> Tensor:
        """Return the distances of a block of pairs."""
        reach = self._reach(rows, columns)
        left, right = self.points[:, rows], self.points[:, columns]
        squared = torch.baddbmm(reach, left, right.mT, alpha=-2)
        near = squared < reach.mul_(self.near)
        if rows == columns:
            squared.diagonal(dim1=-2, dim2=-1).zero_()
            near.diagonal(dim1=-2, dim2=-1).zero_()
        for pairs in self._lists(near):
            squared[pairs] = self._differences(pairs, rows, columns).square_().sum(-1)
        return squared.sqrt_()

    def pull(self, grad: Tensor, w: Tensor, d: Tensor, rows: slice, columns: slice) -> None:
        """Add the pull of a block of pairs to ``grad``."""
        # The product cancels for near points, and there the weights may be huge.
        near = (d.square() < self._reach(rows, columns).mul_(self.near)).logical_and_(d > 0)
        lists = self._lists(near)
        for pairs in lists:
            force = self._differences(pairs, rows, columns).mul_(w[pairs].unsqueeze(-1))
            batch, i, j = pairs
            grad.index_put_((batch, _place(i, rows)), force, accumulate=True)
            if rows != columns:
                grad.index_put_((batch, _place(j, columns)), -force, accumulate=True)
        self._pull_by_product(grad, w.masked_fill(near, 0.0) if lists else w, rows, columns)

    def _pull_by_product(self, grad: Tensor, w: Tensor, rows: slice, columns: slice) -> None:
        r"""Add :math:`\mathrm{diag}(W 1) x - W x`, the sum of :math:`W_{ij} (x_i - x_j)` over j."""
        left, right = self.points[:, rows], self.points[:, columns]
        grad[:, rows] += torch.baddbmm(w.sum(-1, keepdim=True) * left, w, right, alpha=-1)
        if rows != columns:
            totals = w.sum(-2).unsqueeze(-1)
            grad[:, columns] += torch.baddbmm(totals * right, w.mT, left, alpha=-1)

    def _reach(self, rows: slice, columns: slice) -> Tensor:
        reach: Tensor = self.norms[:, rows, None] + self.norms[:, None, columns]
        return reach

    def _lists(self, mask: Tensor) -> list[tuple[Tensor, ...]]:
        """Return the indices where ``mask`` is set, in pieces whose differences fit in PIECE."""
        found = mask.nonzero()
        if not len(found):
            return []
        pieces = torch.split(found, max(1, PIECE // self.x.shape[-1]))
        return [piece.unbind(-1) for piece in pieces]

    def _differences(self, pairs: tuple[Tensor, ...], rows: slice, columns: slice) -> Tensor:
        batch, i, j = pairs
        # From the points as they came: centring has rounded the others.
        difference: Tensor = self.x[batch, _place(i, rows)] - self.x[batch, _place(j, columns)]
        return difference if self.scale is None else difference.div_(self.scale[batch, 0])


def _power_of_two(deviations: Tensor) -> Tensor:
    """Return the power of two below the largest entry of each ``(N, P)`` matrix."""
    size = torch.linalg.vector_norm(deviations, torch.inf, dim=(-2, -1), keepdim=True)
    # A constant sample has no size; any unit will do, so long as the points fit in it.
    size = size.masked_fill(size < torch.finfo(deviations.dtype).tiny, 1.0)
    integer, exponent_bits = EXPONENT_BITS[deviations.dtype]
    scale: Tensor = size.view(integer).bitwise_and(exponent_bits).view(deviations.dtype)
    return scale


def _place(index: Tensor, block: slice) -> Tensor:
    step: int = block.step or 1
    start: int = block.start
    return index * step + start
