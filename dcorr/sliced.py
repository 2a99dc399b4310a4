"""Sliced distance covariance: an estimate from projections on random lines, with its error."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dcorr import _checks
from dcorr._distance_statistics import PROJECTIONS, Settings, prepare
from dcorr._projections import covariances


class SlicedEstimate(NamedTuple):
    """An estimate of dCov² and its standard error over the random directions."""

    value: Tensor
    """The mean over projections, of shape ``batch``."""
    standard_error: Tensor
    """The standard deviation of that mean, of shape ``batch``, without gradient."""


def sliced_dcov2(
    x: Tensor,
    y: Tensor,
    *,
    num_projections: int = PROJECTIONS,
    generator: torch.Generator | None = None,
    unbiased: bool = False,
    weights: Tensor | None = None,
    check_finite: bool = False,
) -> SlicedEstimate:
    r"""Squared distance covariance, estimated from one-dimensional projections.

    .. math::
        \mathrm{dCov}^2(x, y) \approx \frac{C_p C_q}{k}
        \sum_{l=1}^{k} \mathrm{dCov}^2(\theta_l^T x, \phi_l^T y), \qquad
        C_p = \frac{\sqrt\pi\, \Gamma((p + 1) / 2)}{\Gamma(p / 2)}

    with directions :math:`\theta_l` and :math:`\phi_l` drawn uniformly on the unit spheres, all
    independent, and shared by the problems of a batch. The mean over directions is the exact
    :func:`~dcorr.dcov2` of the samples, biased or unbiased. Time grows with
    :math:`k\, n (\log n + p + q)`, memory with n: projections are worked on some four million
    numbers at a time, and where there are more the backward pass computes them again.

    Args:
        x: ``(*batch, n, p)`` or ``(n,)``, as in :func:`~dcorr.dcov2`.
        y: ``(*batch, n, q)`` or ``(n,)``, as in :func:`~dcorr.dcov2`.
        num_projections: k, at least 2. The error falls with its root.
        generator: draws the directions; on the device of the samples. ``None`` is torch's own.
        unbiased: estimate the U-statistic; n >= 4.
        weights: ``(n,)`` or ``(*batch, n)``, as in :func:`~dcorr.dcov2`.
        check_finite: raise on NaN or infinity.

    Returns:
        The estimate and its standard error, the standard deviation of the k terms divided by the
        root of k. It tells how far :func:`~dcorr.dcov2` of these samples may be, not how far the
        population is. Both in (unit of x · unit of y), of shape ``batch``. For p = q = 1 the value
        is exact and the error 0 but for rounding.

    Raises:
        TypeError: as :func:`~dcorr.dcov2`.
        ValueError: as :func:`~dcorr.dcov2`.

    Gradient:
        The value's is that of the mean of the projections' statistics: an unbiased estimate of the
        gradient of :func:`~dcorr.dcov2`. Pairs that coincide in a projection contribute 0 to it.
        The standard error has none.

    Reference:
        Huang and Huo 2022, "A statistically and numerically efficient independence test based on
        random projections and distance covariance".

    Example:
        >>> import dcorr, torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> x = torch.randn(200, 3, generator=generator)
        >>> estimate = sliced_dcov2(x, x.square(), num_projections=256, generator=generator)
        >>> exact = dcorr.dcov2(x, x.square())
        >>> bool((estimate.value - exact).abs() < 4 * estimate.standard_error)
        True
    """
    _checks.check_integer("num_projections", num_projections, low=2)
    settings = Settings(
        unbiased=unbiased,
        method="sliced",
        check_finite=check_finite,
        num_projections=num_projections,
        generator=generator,
    )
    samples = prepare({"x": x, "y": y}, weights, settings)
    draw, tensors = samples.projections, samples.tensors
    lines = [(tensors[name], draw.directions(tensors[name])) for name in ("x", "y")]
    terms = covariances(*lines[0], *lines[1], samples.weights, samples.of_lines)
    error = terms.detach().std(0) / num_projections**0.5
    return SlicedEstimate(samples.result(terms.mean(0)), samples.result(error))
