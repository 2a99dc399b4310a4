"""One-dimensional samples along their order: distances without pairs, and points of the plane."""

from __future__ import annotations

import torch
from torch import Tensor

from dcorr.pairwise import univariate_sums as order_sums
from dcorr.pairwise.sample import wide


class Line:
    """The points of a sample along their order: ``(B, N)``, counted from the middle one.

    Numbers given to its methods, and what they return, are in this order too. Weights have mean 1:
    running sums of 1 have no rounding, those of 1/n drift away.
    """

    def __init__(self, x: Tensor, order: Tensor, weights: Tensor | None) -> None:
        self.order = order
        x = x[..., 0].gather(-1, order)
        # By the numbers as they came: centring may round different ones to the same.
        keys = order_sums.sortable(x)
        self.ends = _ends(keys)
        points = x.to(wide(x))
        n = points.shape[-1]
        if weights is None:
            self.weights = points.new_ones(1, 1).expand_as(points)
        else:
            weights = weights.to(points.dtype).gather(-1, order)
            self.weights = weights * (n / weights.sum(-1, keepdim=True))
        self.weighted = weights is not None
        # From a point in the middle: no offset costs digits, constants and most ties are exactly 0.
        # The middle of what has weight, so that this also holds where all others have none.
        self.points = points - points.gather(-1, self._middle())
        self.constant = (keys[:, :1] == keys[:, -1:]) & self.points[:, :1].isfinite()

    def _middle(self) -> Tensor:
        """Return the place of the middle point, ``(B, 1)``, the first with half of the weight."""
        if not self.weighted:
            return self.order.new_full((len(self.order), 1), self.order.shape[-1] // 2)
        running = self.weights.cumsum(-1)
        return (running < running[:, -1:] / 2).sum(-1, keepdim=True)

    def put_back(self, values: Tensor) -> Tensor:
        """Return values in the order in which the samples came."""
        return torch.empty_like(values).scatter_(-1, self.order, values)

    def take(self, values: Tensor) -> Tensor:
        """Return values, given in the order in which the samples came, in this order."""
        return values.gather(-1, self.order)

    def weigh(self, values: Tensor) -> Tensor:
        """Return values times weights."""
        return values * self.weights if self.weighted else values

    def mean(self, values: Tensor) -> Tensor:
        """Return the weighted mean, ``(B, 1)``."""
        return self.weigh(values).mean(-1, keepdim=True)

    def signed(self, f: Tensor) -> Tensor:
        r"""Return :math:`\sum_j s_{ij} f_j`: the sum over lower points less that over higher."""
        running = _running(f)
        start, end = self._around(running)
        return start + end - running[:, -1:]

    def row_means(self) -> tuple[Tensor, Tensor]:
        """Return the mean distances of all points from each, in two parts: those below, above."""
        weights, moments = _running(self.weights), _running(self.weigh(self.points))
        below = self.points * weights[:, :-1] - moments[:, :-1]
        above = (
            moments[:, -1:] - moments[:, :-1] - self.points * (weights[:, -1:] - weights[:, :-1])
        )
        n = self.points.shape[-1]
        return below / n, above / n

    def distances(self, f: Tensor) -> Tensor:
        r"""Return :math:`\sum_j |x_i - x_j| f_j`."""
        return self.points * self.signed(f) - self.signed(f * self.points)

    def below(self, f: Tensor) -> Tensor:
        """Return twice the sum over the points before in this order, and that over ties."""
        running = _running(f)
        start, end = self._around(running)
        return 2 * running[:, :-1] + (end - start)

    def mixed(self, other: Tensor, rows: Tensor, counts: Tensor, sums: Tensor) -> Tensor:
        """Return T, from the other sample and what each point dominates of its weight and of it.

        The signs of the definition are 2 (lower) - 1 but for ties, so their product is
        4 (lower in both) - 2 (lower in this) - 2 (lower in the other) + 1, and the last two make
        the other's row means. The order of ties is that of the other sample: the part of them that
        is counted here is known, and taken away.
        """
        below = other * self.below(self.weights) - self.below(self.weigh(other))
        return (4 * (other * counts - sums) - below) / self.weights.shape[-1] - rows

    def _around(self, running: Tensor) -> tuple[Tensor, Tensor]:
        """Return running sums up to the points' groups of ties, and through them."""
        if self.ends is None:
            return running[:, :-1], running[:, 1:]
        start, end = self.ends
        return running.gather(-1, start), running.gather(-1, end)


class Plane:
    """Two samples as points of a plane."""

    def __init__(self, first: Line, second: Line, order: order_sums.JointOrder) -> None:
        self.lines = first, second
        self.order = order
        self.x, self.y = first.points, self.to_first(second.points)  # in the order of x

    def to_first(self, values: Tensor) -> Tensor:
        """Bring values in the order of the second sample into that of the first."""
        return values.gather(-1, self.order.heights)

    def to_second(self, values: Tensor) -> Tensor:
        """Bring values in the order of the first sample into that of the second."""
        return values.gather(-1, self.order.ranks)

    def mixed(self, rows: list[Tensor]) -> list[Tensor]:
        """Return T of both samples, each in its own order, given the row means in theirs."""
        a, b = self.lines
        columns = [a.weigh(self.x), a.weigh(self.y)]
        if a.weighted:
            _, x, y, counts = self._dominance_sums([*columns, a.weights])
        else:
            counts, x, y = self._dominance_sums(columns)
        return [
            a.mixed(self.y, self.to_first(rows[1]), counts, y),
            b.mixed(*(self.to_second(t) for t in (self.x, rows[0], counts, x))),
        ]

    def _dominance_sums(self, columns: list[Tensor]) -> list[Tensor]:
        return order_sums.dominance_sums(self.order.ranks, self.order.heights, columns)

    def products(self) -> Tensor:
        r"""Return :math:`\sum_j w_j |x_i - x_j| |y_i - y_j|`, in the order of x."""
        w, x, y = self.lines[0].weights, self.x, self.y
        columns = [w, w * x, w * y, w * x * y]
        w_sum, x_sum, y_sum, xy_sum = (
            4 * lower_in_both
            - 2 * _before(column)
            - 2 * self.to_first(_before(self.to_second(column)))
            + column.sum(-1, keepdim=True)
            for lower_in_both, column in zip(
                self._dominance_sums(columns)[1:], columns, strict=True
            )
        )
        return (x * y * w_sum - x * y_sum - y * x_sum + xy_sum) / w.shape[-1]


def _running(f: Tensor) -> Tensor:
    """Return the sums over the first 0, 1, ..., N numbers, ``(B, N + 1)``."""
    running = f.new_zeros(len(f), f.shape[-1] + 1)
    torch.cumsum(f, -1, out=running[:, 1:])
    return running


def _before(f: Tensor) -> Tensor:
    return _running(f)[:, :-1]


def _ends(keys: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return where the groups of equal sorted keys begin, and where the next ones do."""
    ties = order_sums.find_ties(keys)
    if ties is None:
        return None
    n = keys.shape[-1]
    start = torch.arange(n, device=keys.device).repeat(len(keys), 1)
    end = start + 1
    start.put_(ties.members, ties.groups % n)
    end.put_(ties.members, ties.ends % n + 1)
    return start, end
