"""Cross-covariance penalty (XCov): the linear decorrelation loss."""

from __future__ import annotations

import torch
from torch import Tensor

from dcorr._checks import (
    as_samples,
    autocasts,
    broadcast_batch,
    check_finite_values,
    check_flag,
    check_same_kind,
    check_same_samples,
    check_weights,
    compute_dtype,
    without_autocast,
)
from dcorr._collectives import agree, all_rows, all_sum, check_enough_together
from dcorr._process_group import Group, HoldsGroup, Team, check_group, together
from dcorr._reduction import check_reduction, reduce_batch


def xcov(
    x: Tensor,
    y: Tensor,
    *,
    weights: Tensor | None = None,
    check_finite: bool = False,
    group: Group = None,
) -> Tensor:
    r"""Half the sum of the squared cross-covariances between the columns of two samples.

    .. math::
        \mathrm{XCov}(X, Y) = \frac{1}{2} \sum_{i=1}^{p} \sum_{j=1}^{q}
        \Big[ \frac{1}{n} \sum_{m=1}^{n} (x_{mi} - \bar x_i)(y_{mj} - \bar y_j) \Big]^2

    The covariances are divided by n (not n - 1), and their squares are summed (not averaged) over
    all p·q pairs of columns: the value grows with p and q. With ``weights`` every mean is weighted.
    On centred rows the same number is
    :math:`\frac{1}{2 n^2} \sum_{m,l} \langle x_m, x_l \rangle \langle y_m, y_l \rangle`;
    of the two forms the one with fewer multiplications runs.

    Args:
        x: ``(*batch, n, p)`` or ``(n,)``, which is read as ``(n, 1)``; n >= 2, p >= 1, a
            floating-point dtype. Half precision is computed in float32.
        y: ``(*batch, n, q)`` or ``(n,)``; the same n, device and dtype as ``x`` (under autocast the
            dtypes may differ), batch dimensions that broadcast with those of ``x``.
        weights: ``(n,)`` or ``(*batch, n)``, non-negative and not all zero; divided by their sum.
            ``None`` weighs every sample alike.
        check_finite: raise on NaN or infinity in ``x``, ``y`` or ``weights``. Off by default, since
            looking at values makes a GPU wait; NaN in then gives NaN out.
        group: several processes' samples together, as in :func:`~dcorr.dcov2`. Each process sums
            over its own; only sums travel (or, where that is less, the samples).

    Returns:
        Tensor of shape ``batch``, >= 0, in (unit of x · unit of y)², in the dtype of the inputs
        (float32 for half precision under autocast). It is 0 where no column of ``x`` correlates
        with a column of ``y`` in this sample; dependence without correlation is not seen.

    Raises:
        TypeError: if an argument is no dense floating-point tensor, or the dtypes differ.
        ValueError: if shapes or devices do not fit, n < 2, a sample has no columns, or
            ``check_finite`` finds a NaN or infinity.

    Gradient:
        The value is a polynomial in ``x`` and ``y``, so there are no ties: its gradient exists
        everywhere, of any order, and flows to ``weights`` too. A constant column contributes
        exactly 0, and a constant sample has a zero gradient on both sides.

    Reference:
        Cheung, Livezey, Bansal and Olshausen 2014, "Discovering hidden factors of variation in deep
        networks"; written out in Song et al. 2020, CDNet, Eq. (2).

    Example:
        >>> x = torch.tensor([[1.0], [2.0], [3.0]])
        >>> round(xcov(x, 2 * x).item(), 4)  # the covariance is 4/3: ½ · 16/9
        0.8889
    """
    with together(group, "xcov") as team:
        least = 2 if team is None else 0  # one process's samples may be fewer
        x, y = as_samples("x", x, min_samples=least), as_samples("y", y, min_samples=least)
        check_same_samples(x=x, y=y)
        batch = broadcast_batch(x=x.shape[:-2], y=y.shape[:-2])
        if weights is not None:
            check_weights(weights, batch, x.shape[-2])
        check_same_kind(x=x, y=y, weights=weights)
        check_flag("check_finite", check_finite)
        if check_finite:
            check_finite_values(x=x, y=y, weights=weights)
        counts = [] if team is None else _agree(team, x, y, weights)
    wide = torch.promote_types(compute_dtype(x), compute_dtype(y))
    narrow = wide if autocasts(x) else x.dtype
    with without_autocast(x):  # it would multiply in half precision
        x, y = x.to(wide), y.to(wide)
        if team is not None:
            return _of_all_processes(x, y, weights, team, counts).to(narrow)
        w = _normalised(weights, x.shape[-2], like=x)
        x, y = _centred(x, w), _centred(y, w)
        form = _feature_form if _feature_form_is_cheaper(x, y, x.shape[-2]) else _sample_form
        return form(x, y, w).to(narrow)


class XCovLoss(HoldsGroup):
    """Module form of :func:`xcov`: it holds the settings and has no parameters.

    Args:
        reduction: ``"mean"`` or ``"sum"`` over the batch dimensions, or ``"none"``. Samples are
            always averaged: without batch dimensions the three are the same scalar.
        check_finite: as in :func:`xcov`.
        group: ``None``, ``"world"`` or a ``ProcessGroup``, looked up at each call.

    Example:
        >>> decorrelation = XCovLoss()
        >>> x = torch.tensor([[1.0], [2.0], [3.0]])
        >>> round((0.1 * decorrelation(x, 2 * x)).item(), 4)
        0.0889
    """

    def __init__(
        self, *, reduction: str = "mean", check_finite: bool = False, group: Group = None
    ) -> None:
        super().__init__()
        check_flag("check_finite", check_finite)
        check_reduction(reduction)
        check_group(group)
        self.group = group
        self.check_finite = check_finite
        self.reduction = reduction

    def forward(self, x: Tensor, y: Tensor, *, weights: Tensor | None = None) -> Tensor:
        """Return ``xcov(x, y)``, reduced over the batch dimensions."""
        value = xcov(x, y, weights=weights, check_finite=self.check_finite, group=self.group)
        return reduce_batch(value, self.reduction)

    def extra_repr(self) -> str:
        """Show the settings when the module is printed."""
        return f"reduction={self.reduction!r}, check_finite={self.check_finite}{self._group_repr()}"


def _normalised(weights: Tensor | None, n: int, *, like: Tensor) -> Tensor:
    """Weights of sum 1 as a column, (*B, N, 1)."""
    if weights is None:
        return like.new_full((n, 1), 1.0 / n)
    w = _column(weights, like=like)
    return w / w.sum(dim=-2, keepdim=True)


def _column(weights: Tensor, *, like: Tensor) -> Tensor:
    return weights.to(like.dtype).unsqueeze(-1)


def _centred(x: Tensor, w: Tensor) -> Tensor:
    """Rows minus their weighted mean."""
    # A shift changes nothing, so the first one needs no gradient. It takes a row and not the mean:
    # a constant column then becomes exactly 0, and an offset is gone before anything is summed.
    x = x - x[..., :1, :].detach()
    return x - (w * x).sum(dim=-2, keepdim=True)


def _feature_form_is_cheaper(x: Tensor, y: Tensor, n: int) -> bool:
    """Compare n·p·q multiplications with n²·(p + q)."""
    p, q = x.shape[-1], y.shape[-1]
    return p * q <= n * (p + q)


def _feature_form(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """Square the p × q cross-covariances."""
    covariance = x.mT @ (w * y)  # (*B, P, Q)
    return 0.5 * covariance.square().sum(dim=(-2, -1))


def _sample_form(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """Multiply the two n × n matrices of inner products."""
    # One weight in each factor keeps both of the size of a variance.
    products = (w * (x @ x.mT)) * (w.mT * (y @ y.mT))  # (*B, N, N)
    return 0.5 * products.sum(dim=(-2, -1))


def _agree(team: Team, x: Tensor, y: Tensor, weights: Tensor | None) -> list[int]:
    """Return every process's number of samples, once all agree on the rest."""
    given = {"x": x, "y": y} | ({} if weights is None else {"weights": weights.unsqueeze(-1)})
    counts = agree(team, given, list(given.values()), {})
    check_enough_together("x", counts, 2)
    return counts


def _of_all_processes(
    x: Tensor, y: Tensor, weights: Tensor | None, team: Team, counts: list[int]
) -> Tensor:
    """Return the statistic of all processes' samples from sums over those of each."""
    p, q = x.shape[-1], y.shape[-1]
    w = x.new_ones(x.shape[-2], 1) if weights is None else _column(weights, like=x)
    batch = broadcast_batch(x=x.shape[:-2], y=y.shape[:-2], weights=w.shape[:-2])
    x, y, w = (t.expand(*batch, *t.shape[-2:]) for t in (x, y, w))
    both = torch.cat([x, y], -1)  # (*B, N_local, P + Q)
    # As in _centred, with one row for all: the first of the first process that has any.
    row = torch.zeros_like(both.detach().sum(-2, keepdim=True))
    if team.rank == next(rank for rank, n in enumerate(counts) if n):
        row += both.detach()[..., :1, :]
    both = both - all_sum(row, team)
    sums = all_sum(torch.cat([w * both, w], -1).sum(-2, keepdim=True), team)
    total = sums[..., -1:]  # of the weights, (*B, 1, 1)
    w = w / total
    x, y = torch.split(both - sums[..., :-1] / total, [p, q], -1)
    if _feature_form_is_cheaper(x, y, sum(counts)):
        return 0.5 * all_sum(x.mT @ (w * y), team).square().sum(dim=(-2, -1))
    every_x, every_y, every_w = all_rows([x, y, w], team, counts)
    products = (w * (x @ every_x.mT)) * (every_w.mT * (y @ every_y.mT))  # (*B, N_local, N)
    return 0.5 * all_sum(products.sum(dim=(-2, -1)), team)
