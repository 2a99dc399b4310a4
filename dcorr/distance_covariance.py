"""Distance covariance and correlation: measures of dependence that see every kind of it.

A trailing 2 means squared, always: ``dcov2`` is dCov², ``dcor2`` is R², ``dcor`` is R.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dcorr import _checks
from dcorr.pairwise import PairMoments, pair_moments


def dcov2(
    x: Tensor,
    y: Tensor,
    *,
    unbiased: bool = False,
    exponent: float = 1.0,
    weights: Tensor | None = None,
    method: str = "auto",
    check_finite: bool = False,
) -> Tensor:
    """Return the squared distance covariance of two samples."""
    moments, n, dtype = _moments(x, y, unbiased, exponent, weights, method, check_finite)
    if unbiased:
        return _unbiased(moments.ab, moments.a_rows, moments.b_rows, n).to(dtype)
    return moments.ab.to(dtype)


def dcor2(
    x: Tensor,
    y: Tensor,
    *,
    unbiased: bool = False,
    exponent: float = 1.0,
    weights: Tensor | None = None,
    method: str = "auto",
    check_finite: bool = False,
) -> Tensor:
    """Return the squared distance correlation of two samples."""
    moments, n, dtype = _moments(x, y, unbiased, exponent, weights, method, check_finite)
    ab, aa, bb, a, b = moments
    if unbiased:
        ab, aa, bb = _unbiased(ab, a, b, n), _unbiased(aa, a, a, n), _unbiased(bb, b, b, n)
    return _ratio(ab, aa, bb).to(dtype)


def dcor(
    x: Tensor,
    y: Tensor,
    *,
    exponent: float = 1.0,
    weights: Tensor | None = None,
    method: str = "auto",
    check_finite: bool = False,
) -> Tensor:
    """Return the distance correlation of two samples."""
    moments, _, dtype = _moments(x, y, False, exponent, weights, method, check_finite)
    return _root(_ratio(moments.ab, moments.aa, moments.bb)).to(dtype)


class DCov2Loss(nn.Module):
    """The mean of :func:`dcov2` over the batch dimensions."""

    def __init__(
        self,
        *,
        unbiased: bool = False,
        exponent: float = 1.0,
        method: str = "auto",
        reduction: str = "mean",
        check_finite: bool = False,
    ) -> None:
        super().__init__()
        self.unbiased = unbiased
        self.exponent = exponent
        self.method = method
        self.reduction = reduction
        self.check_finite = check_finite

    def forward(self, x: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the loss of two samples."""
        value = dcov2(
            x,
            y,
            unbiased=self.unbiased,
            exponent=self.exponent,
            weights=weights,
            method=self.method,
            check_finite=self.check_finite,
        )
        return value.mean()


def _moments(
    x: Tensor,
    y: Tensor,
    unbiased: bool,
    exponent: float,
    weights: Tensor | None,
    method: str,
    check_finite: bool,
) -> tuple[PairMoments, int, torch.dtype]:
    """Check all arguments, and return the moments, the number of samples and the result's dtype."""
    _checks.check_flag("unbiased", unbiased)
    _checks.check_number("exponent", exponent, low=0.0, high=2.0, open_low=True)
    least = 4 if unbiased else 2
    x = _checks.as_samples("x", x, min_samples=least)
    y = _checks.as_samples("y", y, min_samples=least)
    _checks.check_same_kind(x=x, y=y, weights=weights)
    _checks.check_same_samples(x=x, y=y)
    batch = _checks.broadcast_batch(x=x.shape[:-2], y=y.shape[:-2])
    n = x.shape[-2]
    if weights is not None:
        _checks.check_weights(weights, batch, n)
        weights = weights / weights.sum(-1, keepdim=True)
    if check_finite:
        _checks.check_finite_values(x=x, y=y, weights=weights)
    dtype = _checks.result_dtype(x)
    work = _checks.compute_dtype(x)
    x, y = (t.to(work).expand(*batch, *t.shape[-2:]) for t in (x, y))
    if weights is not None:
        weights = weights.to(work).expand(*batch, n)
    moments = pair_moments(x, y, exponent=exponent, weights=weights, method=method)
    return moments, n, dtype


def _unbiased(ab: Tensor, a_rows: Tensor, b_rows: Tensor, n: int) -> Tensor:
    a_mean, b_mean = a_rows.mean(-1), b_rows.mean(-1)
    rows = ((a_rows - a_mean.unsqueeze(-1)) * (b_rows - b_mean.unsqueeze(-1))).mean(-1)
    return n / (n - 3) * (ab - 4 / (n - 2) * rows - a_mean * b_mean / (n - 1))


def _ratio(ab: Tensor, aa: Tensor, bb: Tensor) -> Tensor:
    constant = (aa <= 0) | (bb <= 0)  # False for NaN, which must stay NaN
    scale = torch.where(constant, 1.0, aa).sqrt() * torch.where(constant, 1.0, bb).sqrt()
    return torch.where(constant, 0.0, ab / scale).clamp(-1.0, 1.0)


def _root(squared: Tensor) -> Tensor:
    zero = squared <= 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, squared).sqrt())
