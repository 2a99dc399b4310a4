"""Distances between the points of a sample, exact for near points, and the pull along them."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

# |x|² + |y|² - 2 x·y is one matrix product, but it keeps few digits for near points: its error is
# about eps (|x|² + |y|²). Pairs whose squared distance is under this share of |x|² + |y|² are
# computed again from differences, which leaves the others a relative error of about eps / share.
NEAR = {torch.float32: 1e-2, torch.float64: 1e-4}

# Where a floating-point number keeps its exponent: the integer of its width, and the mask.
EXPONENT_BITS = {
    torch.float32: (torch.int32, 0x7F800000),
    torch.float64: (torch.int64, 0x7FF0000000000000),
}

# With so few features differences cost no more than the product.
FEW_FEATURES = 2

# Numbers that a gather of near pairs may hold at once: many near pairs must not need much memory.
GATHER = 1 << 20


def wide(t: Tensor) -> torch.dtype:
    """Return the dtype for sums over many pairs: float64 where the device has it."""
    return torch.float32 if t.device.type == "mps" else torch.float64


def prepare(x: Tensor) -> Sample:
    """Return the form of a sample ``(B, N, P)`` whose distances are cheapest on its device."""
    # The near pairs of a product are a list of unknown length, and to ask another device for its
    # length stops the pipeline: only the CPU may look.
    by_product = x.device.type == "cpu" and x.shape[-1] > FEW_FEATURES
    return SampleByProduct(x) if by_product else SampleByDifferences(x)


class Sample(ABC):
    """Points ``(B, N, P)`` in units of ``scale``, a power of two near the largest deviation.

    In these units squares neither overflow nor vanish. Dividing by a power of two is exact, so
    coincident points stay coincident and no digit is lost.
    """

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self.centred = x - x.mean(-2, keepdim=True)
        size = torch.linalg.vector_norm(self.centred, torch.inf, dim=(-2, -1), keepdim=True)
        # A constant sample has no size; any unit will do, so long as the points fit in it.
        size = size.masked_fill(size < torch.finfo(x.dtype).tiny, 1.0)
        # All but the exponent of a floating-point number cleared is the power of two below it.
        integer, exponent_bits = EXPONENT_BITS[x.dtype]
        self.scale = size.view(integer).bitwise_and(exponent_bits).view(x.dtype)  # (B, 1, 1)

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

    def __init__(self, x: Tensor) -> None:
        super().__init__(x)
        self.points = x / self.scale

    def distances(self, rows: slice, columns: slice) -> Tensor:
        """Return the distances of a block of pairs."""
        left, right = self.points[:, rows], self.points[:, columns]
        if left.shape[-1] > FEW_FEATURES:
            return torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist")
        first, *others = _differences(left, right)
        squared = first.square_()
        for difference in others:
            squared.addcmul_(difference, difference)
        return squared.sqrt_()

    def pull(self, grad: Tensor, w: Tensor, d: Tensor, rows: slice, columns: slice) -> None:
        """Add the pull of a block of pairs to ``grad``."""
        if self.points.shape[-1] > FEW_FEATURES:
            # The product cancels for near points; in float64 that does no harm.
            points = self.points.to(wide(w))
            points = points - points.mean(-2, keepdim=True)
            _pull_by_product(grad, w.to(points.dtype), points, rows, columns)
            return
        left, right = self.points[:, rows], self.points[:, columns]
        for k, difference in enumerate(_differences(left, right)):
            pairs = difference.mul_(w)
            grad[:, rows, k] += pairs.sum(-1)
            if rows != columns:
                grad[:, columns, k] -= pairs.sum(-2)


class SampleByProduct(Sample):
    """Distances from one matrix product, with the near pairs computed again from differences."""

    def __init__(self, x: Tensor) -> None:
        super().__init__(x)
        self.points = self.centred / self.scale
        self.norms = self.points.square().sum(-1)  # (B, N)
        self.near = NEAR[x.dtype]

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
        near = d.square() < self._reach(rows, columns).mul_(self.near)
        for pairs in self._lists(near & (d > 0)):
            force = self._differences(pairs, rows, columns).mul_(w[pairs].unsqueeze(-1))
            batch, i, j = pairs
            grad.index_put_((batch, _place(i, rows)), force, accumulate=True)
            if rows != columns:
                grad.index_put_((batch, _place(j, columns)), -force, accumulate=True)
        _pull_by_product(grad, w.masked_fill(near, 0.0), self.points, rows, columns)

    def _reach(self, rows: slice, columns: slice) -> Tensor:
        reach: Tensor = self.norms[:, rows, None] + self.norms[:, None, columns]
        return reach

    def _lists(self, mask: Tensor) -> list[tuple[Tensor, ...]]:
        """Return the indices where ``mask`` is set, in pieces whose differences fit in GATHER."""
        found = mask.nonzero()
        if not len(found):
            return []
        pieces = torch.split(found, max(1, GATHER // self.x.shape[-1]))
        return [piece.unbind(-1) for piece in pieces]

    def _differences(self, pairs: tuple[Tensor, ...], rows: slice, columns: slice) -> Tensor:
        batch, i, j = pairs
        # From the points as they came: centring has rounded the others.
        difference = self.x[batch, _place(i, rows)] - self.x[batch, _place(j, columns)]
        scaled: Tensor = difference.div_(self.scale[batch, 0])
        return scaled


def _place(index: Tensor, block: slice) -> Tensor:
    step: int = block.step or 1
    start: int = block.start
    return index * step + start


def _differences(left: Tensor, right: Tensor) -> list[Tensor]:
    return [left[..., k, None] - right[..., None, :, k] for k in range(left.shape[-1])]


def _pull_by_product(grad: Tensor, w: Tensor, points: Tensor, rows: slice, columns: slice) -> None:
    r"""Add :math:`\mathrm{diag}(W 1) x - W x`, the sum of :math:`W_{ij} (x_i - x_j)` over j."""
    left, right = points[:, rows], points[:, columns]
    grad[:, rows] += torch.baddbmm(w.sum(-1, keepdim=True) * left, w, right, alpha=-1)
    if rows != columns:
        totals = w.sum(-2).unsqueeze(-1)
        grad[:, columns] += torch.baddbmm(totals * right, w.mT, left, alpha=-1)
