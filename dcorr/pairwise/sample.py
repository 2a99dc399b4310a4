"""Distances between the points of a sample, exact for near points, and the pull along them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from dcorr.pairwise.scratch import scratch

# Where a floating-point number keeps its exponent: the integer of its width, and the mask.
EXPONENT_BITS = {
    torch.float32: (torch.int32, 0x7F800000),
    torch.float64: (torch.int64, 0x7FF0000000000000),
}

# Numbers that differences of pairs may hold at once: many pairs must not need much memory.
PIECE = 1 << 20

Pairs = tuple[Tensor, Tensor, Tensor]
"""Indices of pairs within a block: batch, row, column."""


def wide(t: Tensor) -> torch.dtype:
    """Return the dtype for sums over many pairs: float64 where the device has it."""
    return torch.float32 if t.device.type == "mps" else torch.float64


class Near(NamedTuple):
    """The pairs of a block that are too near for a product."""

    pairs: list[Pairs]
    double: bool
    """Whether the rest of the block is near enough to need float64."""


# What is said of a block that nobody has looked into.
ANY_NEAR = Near([], double=False)


class Distances(NamedTuple):
    """The distances of a block of pairs, in units of the sample's scale; coincident points: 0."""

    d: Tensor
    """``(B, rows, columns)``."""
    near: Near | None
    """``None`` where no pair is near, so that only the diagonal can be 0."""


class Sample(ABC):
    """Points ``(B, N, P)`` in units of ``scale``, a power of two near the largest deviation.

    In these units squares neither overflow nor vanish. Dividing by a power of two is exact, so
    coincident points stay coincident and no digit is lost. Where squares have room as they are,
    ``scale`` is ``None``: of float32 numbers in float64, and of numbers that a look finds so.
    """

    def __init__(self, x: Tensor, dtype: torch.dtype, name: str = "") -> None:
        self.name = name
        self.x = x.to(dtype)
        self.widened = x.dtype != dtype
        self.scale: Tensor | None = None  # (B, 1, 1)
        if not self.widened:
            deviations = self._deviations()
            self.scale = _scale(deviations)
            # Here already, in the memory of the deviations: to make those again is another pass.
            self.centred = deviations.sub_(deviations.mean(-2, keepdim=True))

    @cached_property
    def centred(self) -> Tensor:
        """The points less their mean."""
        deviations = self._deviations()
        return deviations.sub_(deviations.mean(-2, keepdim=True))

    def _deviations(self) -> Tensor:
        """Return the points less the first of them.

        The unit is taken from these and not from the deviations from the mean, whose rounding
        depends on the machine: several processes sum in one unit.
        """
        out = scratch(f"points {self.name}", self.x.shape, self.x)
        return torch.sub(self.x, self.x[:, :1], out=out)

    def scaled(self, values: Tensor) -> Tensor:
        """Return lengths in units of ``scale``."""
        return values if self.scale is None else values / self.scale

    @abstractmethod
    def distances(self, rows: slice, columns: slice) -> Distances:
        """Return the distances of a block of pairs."""

    def all_distances(self) -> Tensor:
        """Return the distances of all pairs."""
        every = slice(0, self.x.shape[-2])
        return self.distances(every, every).d

    def rough_distances(self, rows: slice, columns: slice) -> Tensor:
        """Return the distances of a block of pairs with little care for near ones."""
        return self.distances(rows, columns).d

    @abstractmethod
    def pull(self, w: Tensor, near: Near | None, rows: slice, columns: slice) -> None:
        r"""Add :math:`\sum_j W_{ij} (x_i - x_j)` over a block of pairs to the gradient.

        ``near`` is what :meth:`distances` said. Off the diagonal the block also stands for its
        mirror image: the pairs pull at both of their ends.
        """

    @abstractmethod
    def gradient(self) -> Tensor:
        """Return the sum of all pulls, ``(B, N, P)``."""

    def pull_all(self, w: Tensor, d: Tensor, inverse: Tensor, factor: float = 1.0) -> Tensor:
        """Return the gradient of all pairs, times a factor, where no block has been pulled.

        ``inverse`` is 1/d, and 0 where d is 0. ``w`` is overwritten.
        """
        every = slice(0, self.x.shape[-2])
        self.pull(w, ANY_NEAR, every, every)
        return self.gradient().mul_(factor)


# With so few features differences are taken one by one, which costs no more than torch's distances.
FEW_FEATURES = 2


class SampleByDifferences(Sample):
    """Distances from the differences of all pairs: exact, without looking at any value."""

    @cached_property
    def points(self) -> Tensor:
        """The points, scaled."""
        return self.scaled(self.x)

    @cached_property
    def _grad(self) -> Tensor:
        return torch.zeros_like(self.x)

    def distances(self, rows: slice, columns: slice) -> Distances:
        """Return the distances of a block of pairs."""
        if self.points.shape[-1] > FEW_FEATURES:
            return Distances(
                direct_distances(self.points[:, rows], self.points[:, columns]), ANY_NEAR
            )
        squares = [d.square_().sum(1) for _, d in self._differences(rows, columns)]
        return Distances(sum(squares[1:], start=squares[0]).sqrt_(), ANY_NEAR)

    def pull(self, w: Tensor, near: Near | None, rows: slice, columns: slice) -> None:
        """Add the pull of a block of pairs to the gradient."""
        for features, difference in self._differences(rows, columns):
            forces = difference.mul_(w.unsqueeze(1))
            self._grad[:, rows, features] += forces.sum(-1).mT
            if rows != columns:
                self._grad[:, columns, features] -= forces.sum(-2).mT

    def gradient(self) -> Tensor:
        """Return the sum of all pulls."""
        return self._grad

    def _differences(self, rows: slice, columns: slice) -> Iterator[tuple[slice, Tensor]]:
        """Yield differences ``(B, features, rows, columns)`` of a few features at a time."""
        left, right = self.points[:, rows].mT, self.points[:, columns].mT
        size = left.shape[0] * left.shape[-1] * right.shape[-1]
        step = max(1, PIECE // max(1, size))
        for first in range(0, left.shape[1], step):
            features = slice(first, first + step)
            yield features, left[:, features, :, None] - right[:, features, None, :]


def slopes(d: Tensor, exponent: float) -> Tensor:
    r"""Return :math:`\alpha d^{\alpha - 2}`: times a difference, the gradient; 0 at 0."""
    if exponent == 2.0:
        # Coincident points have a difference of 0 all the same, but for rounding in a product.
        return (d != 0).to(d.dtype).mul_(2.0)
    if exponent == 1.0:
        # Faster than a comparison and a mask.
        return d.reciprocal().nan_to_num_(nan=torch.nan, posinf=0.0, neginf=0.0)
    apart = d.masked_fill(d == 0, torch.inf)
    return apart.pow_(exponent - 2).mul_(exponent)


def direct_distances(left: Tensor, right: Tensor) -> Tensor:
    """Return the distances between two sets of points, from their differences."""
    return torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist")


def _scale(deviations: Tensor) -> Tensor | None:
    """Return the power of two below the largest entry of each ``(N, P)`` matrix, or no need."""
    if not deviations.numel():
        return None
    numbers = torch.finfo(deviations.dtype)
    looks = deviations.device.type == "cpu"
    if looks and len(deviations) == 1:  # one pass, where several take two
        largest = max(abs(end.item()) for end in torch.aminmax(deviations))
        size = deviations.new_full((1, 1, 1), largest)
    else:
        size = deviations.abs().amax((-2, -1), keepdim=True)
    if looks:
        # A look is cheaper than to scale. Squares have room, and so have those of what is 1e-16
        # times smaller. All of a batch or none: it may be repeated between the two passes.
        low, high = (end.item() for end in size.aminmax())
        if 1e16 * numbers.tiny**0.5 < low and high < 1e-4 * numbers.max**0.5:
            return None
    # A constant sample has no size; any unit will do, so long as the points fit in it.
    size = size.masked_fill(size < numbers.tiny, 1.0)
    integer, exponent_bits = EXPONENT_BITS[deviations.dtype]
    scale: Tensor = size.view(integer).bitwise_and(exponent_bits).view(deviations.dtype)
    return scale
