"""Partial distance covariance and correlation: what x and y share beyond z."""

from __future__ import annotations

import torch
from torch import Tensor

from dcorr._distance_statistics import (
    NOISE,
    Samples,
    Settings,
    check_partial_method,
    prepare,
    ratio,
)
from dcorr._process_group import Group, together


def pdcov2(
    x: Tensor,
    y: Tensor,
    z: Tensor,
    *,
    exponent: float = 1.0,
    metric: str = "euclidean",
    method: str = "auto",
    check_finite: bool = False,
    group: Group = None,
) -> Tensor:
    r"""Partial squared distance covariance: that of x and y with z projected out of both.

    With the inner product :math:`(\tilde A \cdot \tilde B)` = the unbiased
    :func:`~dcorr.dcov2`, :math:`P(x) = \tilde A - \frac{(\tilde A \cdot \tilde C)}
    {(\tilde C \cdot \tilde C)} \tilde C` and ``P(y)`` likewise,

    .. math::
        \mathrm{pdCov}^2 = (P(x) \cdot P(y)) = (\tilde A \cdot \tilde B)
        - \frac{(\tilde A \cdot \tilde C)(\tilde B \cdot \tilde C)}{(\tilde C \cdot \tilde C)},

    normalised by n(n - 3) as the U-statistic is. The projection is linear in U-centred distance
    matrices: it is no conditional independence, and 0 does not mean that.

    Args:
        x: ``(*batch, n, p)`` or ``(n,)`` read as ``(n, 1)``; n >= 4, as in :func:`~dcorr.dcov2`.
        y: ``(*batch, n, q)`` or ``(n,)``; same n, device and dtype.
        z: ``(*batch, n, r)`` or ``(n,)``; same n, device and dtype; what is projected out.
        exponent: of the distances, in (0, 2].
        metric: ``"euclidean"`` or ``"precomputed"``, as in :func:`~dcorr.dcov2`.
        method: ``"auto"`` or one by name, but ``"sliced"``, as in :func:`~dcorr.dcov2`.
        check_finite: raise on NaN or infinity.
        group: several processes' samples together, as in :func:`~dcorr.dcov2`.

    Returns:
        Tensor of shape ``batch``, of any sign, in (unit of x · unit of y) to the power
        ``exponent``. With a z of zero unbiased distance variance it is the unbiased
        ``dcov2(x, y)``.

    Raises:
        TypeError: as :func:`~dcorr.dcov2`.
        ValueError: as :func:`~dcorr.dcov2`.

    Gradient:
        To x, y and z; 0 from pairs of coincident points, and 0 to a z of zero variance.

    Reference:
        Székely and Rizzo 2014, "Partial distance correlation with methods for dissimilarities":
        U-centring by Definition 2, the inner product by Proposition 1.

    Example:
        >>> import torch
        >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        >>> y = torch.tensor([1.0, 7.0, 5.0, 5.0, 6.0, 2.0])
        >>> round(pdcov2(x, y, torch.ones(6)).item(), 4)  # a constant takes nothing away: dcov2
        -0.8889
    """
    with together(group, "pdcov2") as team:
        check_partial_method(method)
        settings = Settings(True, exponent, metric, method, check_finite, group=group)
        samples = prepare({"x": x, "y": y, "z": z}, None, settings, team)
    xy, _, _ = _projected(samples)
    return samples.result(xy)


def pdcor(
    x: Tensor,
    y: Tensor,
    z: Tensor,
    *,
    exponent: float = 1.0,
    metric: str = "euclidean",
    method: str = "auto",
    check_finite: bool = False,
    group: Group = None,
) -> Tensor:
    r"""Partial distance correlation: the cosine of x and y with z projected out of both.

    .. math::
        \mathrm{pdCor} = \frac{(P(x) \cdot P(y))}{|P(x)| |P(y)|}
        = \frac{R_{xy} - R_{xz} R_{yz}}{\sqrt{1 - R_{xz}^2} \sqrt{1 - R_{yz}^2}}

    in the terms of :func:`pdcov2`, where R stands for the bias-corrected ``dcor2(unbiased=True)``:
    it is on the scale of R², under the name that its authors gave it, and has no root.

    Args:
        x: ``(*batch, n, p)`` or ``(n,)`` read as ``(n, 1)``; n >= 4, as in :func:`~dcorr.dcov2`.
        y: ``(*batch, n, q)`` or ``(n,)``; same n, device and dtype.
        z: ``(*batch, n, r)`` or ``(n,)``; same n, device and dtype; what is projected out.
        exponent: of the distances, in (0, 2].
        metric: ``"euclidean"`` or ``"precomputed"``, as in :func:`~dcorr.dcov2`.
        method: ``"auto"`` or one by name, but ``"sliced"``, as in :func:`~dcorr.dcov2`.
        check_finite: raise on NaN or infinity.
        group: several processes' samples together, as in :func:`~dcorr.dcov2`.

    Returns:
        Tensor of shape ``batch``, without unit, in [-1, 1]; 0 where nothing is left of x or of y
        (to rounding: when x is z, or a constant).

    Raises:
        TypeError: as :func:`~dcorr.dcov2`.
        ValueError: as :func:`~dcorr.dcov2`.

    Gradient:
        To x, y and z; 0 from pairs of coincident points, and 0 where the value is 0 because nothing
        is left of x or of y.

    Reference:
        Székely and Rizzo 2014, "Partial distance correlation with methods for dissimilarities":
        U-centring by Definition 2, the inner product by Proposition 1.

    Example:
        >>> import torch
        >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        >>> import torch
        >>> z = torch.tensor([1.0, 7.0, 5.0, 5.0, 6.0, 2.0])
        >>> round(pdcor(x, 2 * x, z).item(), 4)  # y is x up to scale, whatever z is
        1.0
    """
    with together(group, "pdcor") as team:
        check_partial_method(method)
        settings = Settings(True, exponent, metric, method, check_finite, group=group)
        samples = prepare({"x": x, "y": y, "z": z}, None, settings, team)
    return samples.result(ratio(*_projected(samples)))


def _projected(samples: Samples) -> tuple[Tensor, Tensor, Tensor]:
    """Return the inner products xy, xx and yy of what z leaves of x and y."""
    xy = samples.moments("x", "y", variances=True)
    xz = samples.moments("x", "z", variances=True)
    yz = samples.moments("y", "z", variances=False)
    xx, yy = samples.variances(xy)
    _, zz = samples.variances(xz)
    constant = zz <= 0  # False for NaN, which must stay NaN
    inverse = torch.where(constant, 0.0, 1.0 / torch.where(constant, 1.0, zz))
    x_on_z, y_on_z = samples.covariance(xz), samples.covariance(yz)
    left = samples.covariance(xy) - x_on_z * y_on_z * inverse
    # What is left of x when it is a function of z that z's matrix can express is rounding alone.
    rests = ((xx, xx - x_on_z.square() * inverse), (yy, yy - y_on_z.square() * inverse))
    noise = NOISE * samples.epsilon
    x_left, y_left = (torch.where(rest <= noise * own, 0.0, rest) for own, rest in rests)
    return left, x_left, y_left
