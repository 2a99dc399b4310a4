"""Cross-covariance penalty (XCov): the linear decorrelation loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def xcov(x: Tensor, y: Tensor, *, weights: Tensor | None = None) -> Tensor:
    r"""Half the sum of the squared cross-covariances between the columns of two samples.

    .. math::
        \mathrm{XCov}(X, Y) = \frac{1}{2} \sum_{i=1}^{p} \sum_{j=1}^{q}
        \Big[ \frac{1}{n} \sum_{m=1}^{n} (x_{mi} - \bar x_i)(y_{mj} - \bar y_j) \Big]^2

    The covariances are divided by n (not n - 1) and summed, not averaged, over all p·q pairs of
    columns: the value grows with p and q. With ``weights`` every mean is a weighted mean. The same
    number is :math:`\frac{1}{2 n^2} \sum_{ml} \langle x_m, x_l \rangle \langle y_m, y_l \rangle` of
    the centred rows; of the two forms the one with fewer multiplications runs.

    Args:
        x: ``(*batch, n, p)`` or ``(n,)``, which is read as ``(n, 1)``; n >= 2, p >= 1, floating point.
            Half precision is computed in float32.
        y: ``(*batch, n, q)`` or ``(n,)``; same n, batch, device and dtype as ``x``.
        weights: ``(n,)`` or ``(*batch, n)``, non-negative, not all zero; divided by their sum.
            ``None`` weighs every sample alike.

    Returns:
        Tensor of shape ``batch``, >= 0, in (unit of x · unit of y)². 0 exactly when no linear relation
        is left in the sample; dependence without correlation is not seen. Dtype of the inputs
        (float32 under autocast).

    Raises:
        TypeError: if an argument is no floating-point tensor, or dtypes differ.
        ValueError: if shapes do not fit, n < 2, a sample has no columns, or devices differ.

    Gradient:
        A polynomial: defined everywhere and twice differentiable, in ``weights`` too. Constant
        columns give 0 with zero gradient.

    Reference:
        Cheung et al. 2014, "Discovering hidden factors of variation in deep networks"; Song et al.
        2020, CDNet, Eq. (2).

    Example:
        >>> x = torch.tensor([[1.0], [2.0], [3.0]])
        >>> round(xcov(x, 2 * x).item(), 4)  # covariance 4/3, so 16/18
        0.8889
    """
    x, y = (t[:, None] if t.ndim == 1 else t for t in (x, y))
    autocast = torch.is_autocast_enabled(x.device.type)
    result_dtype = torch.promote_types(x.dtype, y.dtype)
    dtype = torch.promote_types(result_dtype, torch.float32)
    # Autocast would run the products in half precision.
    with torch.autocast(x.device.type, enabled=False):
        w = _normalised(weights, x, dtype)
        x, y = _centred(x.to(dtype), w), _centred(y.to(dtype), w)
        form = _feature_form if _feature_form_is_cheaper(x, y) else _sample_form
        value = form(x, y, w)
    return value if autocast else value.to(result_dtype)


class XCovLoss(nn.Module):
    """Module form of :func:`xcov`.

    Args:
        reduction: ``"mean"`` or ``"sum"`` over the batch dimensions (not over samples), or ``"none"``.

    Example:
        >>> loss = XCovLoss()
        >>> x = torch.tensor([[1.0], [2.0], [3.0]])
        >>> round((0.1 * loss(x, 2 * x)).item(), 4)
        0.0889
    """

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, x: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the reduced cross-covariance penalty of ``x`` and ``y``; see :func:`xcov`."""
        value = xcov(x, y, weights=weights)
        if self.reduction == "none":
            return value
        return value.mean() if self.reduction == "mean" else value.sum()

    def extra_repr(self) -> str:
        """Show the settings in the module's printed form."""
        return f"reduction={self.reduction!r}"


def _normalised(weights: Tensor | None, x: Tensor, dtype: torch.dtype) -> Tensor:
    """Weights that sum to 1, as a column."""
    if weights is None:
        return x.new_full((x.shape[-2], 1), 1.0 / x.shape[-2], dtype=dtype)
    w = weights.to(dtype)[..., None]  # (B, N, 1)
    return w / w.sum(dim=-2, keepdim=True)


def _centred(x: Tensor, w: Tensor) -> Tensor:
    """Rows minus their weighted mean, with the mean's own rounding error removed as well."""
    # A constant shift changes nothing, so the first one needs no gradient; the second one starts
    # from values of the size of the spread, whatever the offset was.
    x = x - x.mean(dim=-2, keepdim=True).detach()
    return x - (w * x).sum(dim=-2, keepdim=True)


def _feature_form_is_cheaper(x: Tensor, y: Tensor) -> bool:
    """Compare n·p·q multiplications with n²·(p + q)."""
    n, p, q = x.shape[-2], x.shape[-1], y.shape[-1]
    return p * q <= n * (p + q)


def _feature_form(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
    covariance = x.mT @ (w * y)  # (B, P, Q)
    return 0.5 * covariance.square().sum(dim=(-2, -1))


def _sample_form(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
    # Each factor carries one weight per row, so that both stay of the size of a variance.
    return 0.5 * ((w * (x @ x.mT)) * (w.mT * (y @ y.mT))).sum(dim=(-2, -1))  # (B, N, N) -> (B,)
