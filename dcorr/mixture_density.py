"""Densities of a mixture of diagonal Gaussians, one per class, computed from logarithms alone.

The building blocks of the GM loss (:mod:`dcorr.gaussian_mixture`), useful alone for classification
and for samples without a label. Nothing here under- or overflows where the densities would.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from dcorr._checks import (
    as_samples,
    autocasts,
    broadcast_batch,
    check_same_kind,
    check_tensor,
    compute_dtype,
)

HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)

# Up to this many differences (4 MB in float32) they are stored and squared; beyond, the square is
# expanded into matrix products, which need no N × C × D memory.
DIRECT_LIMIT = 2**20


def class_log_densities(z: Tensor, means: Tensor, log_variances: Tensor) -> Tensor:
    r"""Log-density of every sample under the Gaussian of every class.

    .. math::
        \log \mathcal N(z_m; \mu_c, \Sigma_c) = -d_{mc} - \tfrac12 \sum_{i=1}^{d} \log \sigma_{ci}^2
        - \tfrac{d}{2} \log 2\pi, \qquad
        d_{mc} = \tfrac12 \sum_{i=1}^{d} \frac{(z_{mi} - \mu_{ci})^2}{\sigma_{ci}^2}

    Args:
        z: ``(*batch, n, d)`` or ``(n,)``, which is read as ``(n, 1)``; n >= 1, d >= 1, floating
            point. Half precision is computed in float32.
        means: ``(*batch, C, d)``, the class means μ.
        log_variances: shape of ``means``, the logarithms of the variances σ².

    Returns:
        ``(*batch, n, C)``, of any sign, in nats, in the dtype of ``z`` (float32 for half precision
        under autocast).

    Raises:
        TypeError: if an argument is no dense floating-point tensor, or the dtypes differ.
        ValueError: if shapes or devices do not fit.

    Gradient:
        Smooth, of any order, in all three arguments.

    Reference:
        Zheng and Sun 2019, Lr-LiVAE, the summands of Eq. (6).

    Example:
        >>> zero = torch.zeros(1, 1)
        >>> round(class_log_densities(zero, zero, zero).item(), 4)  # -½ log 2π
        -0.9189
    """
    mix = prepare(z, means, log_variances)
    return _log_densities(mix).to(mix.narrow)


def class_log_posteriors(
    z: Tensor, means: Tensor, log_variances: Tensor, *, priors: Tensor | None = None
) -> Tensor:
    r"""Log-probability of every class, given the sample.

    .. math::
        \log q(c | z_m) = \log \frac{p(c)\, \mathcal N(z_m; \mu_c, \Sigma_c)}
        {\sum_k p(k)\, \mathcal N(z_m; \mu_k, \Sigma_k)}

    Args:
        z: see :func:`class_log_densities`.
        means: ``(*batch, C, d)``, the class means μ.
        log_variances: shape of ``means``, the logarithms of the variances σ².
        priors: ``(C,)`` class probabilities, non-negative, divided by their sum; ``None`` is 1/C.

    Returns:
        ``(*batch, n, C)``, <= 0, in nats; the exponentials sum to 1 over the classes.

    Raises:
        TypeError: if an argument is no dense floating-point tensor, or the dtypes differ.
        ValueError: if shapes or devices do not fit.

    Gradient:
        Smooth, of any order, in all arguments.

    Reference:
        Zheng and Sun 2019, Lr-LiVAE, Eq. (8).

    Example:
        >>> means = torch.tensor([[1.0], [-1.0]])
        >>> q = class_log_posteriors(torch.zeros(1, 1), means, torch.zeros(2, 1)).exp()
        >>> [round(v, 4) for v in q[0].tolist()]
        [0.5, 0.5]
    """
    mix = prepare(z, means, log_variances, priors)
    return (_log_densities(mix) + mix.log_priors).log_softmax(dim=-1).to(mix.narrow)


def mixture_log_density(
    z: Tensor, means: Tensor, log_variances: Tensor, *, priors: Tensor | None = None
) -> Tensor:
    r"""Log-density of every sample under the whole mixture: unlabelled samples of known classes.

    .. math:: \log p(z_m) = \log \sum_c p(c)\, \mathcal N(z_m; \mu_c, \Sigma_c)

    Args:
        z: see :func:`class_log_densities`.
        means: ``(*batch, C, d)``, the class means μ.
        log_variances: shape of ``means``, the logarithms of the variances σ².
        priors: ``(C,)`` class probabilities, non-negative, divided by their sum; ``None`` is 1/C.

    Returns:
        ``(*batch, n)``, of any sign, in nats.

    Raises:
        TypeError: if an argument is no dense floating-point tensor, or the dtypes differ.
        ValueError: if shapes or devices do not fit.

    Gradient:
        Smooth, of any order, in all arguments.

    Reference:
        Zheng and Sun 2019, Lr-LiVAE, Eq. (6).

    Example:
        >>> zero = torch.zeros(2, 1)  # two classes, both standard normal
        >>> round(mixture_log_density(torch.zeros(1, 1), zero, zero).item(), 4)
        -0.9189
    """
    mix = prepare(z, means, log_variances, priors)
    return (_log_densities(mix) + mix.log_priors).logsumexp(dim=-1).to(mix.narrow)


def total_gaussian(
    means: Tensor, log_variances: Tensor, *, priors: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""Mean and variance of the whole mixture.

    .. math::
        \mu_t = \sum_c p(c) \mu_c, \qquad
        \sigma_t^2 = \sum_c p(c) \sigma_c^2 + \sum_c p(c) \mu_c^2 - \mu_t^2

    The last two terms are computed as :math:`\sum_c p(c) (\mu_c - \mu_t)^2`, which does not cancel.

    Args:
        means: ``(*batch, C, d)``, the class means μ, floating point.
        log_variances: shape of ``means``, the logarithms of the variances σ².
        priors: ``(C,)`` class probabilities, non-negative, divided by their sum; ``None`` is 1/C.

    Returns:
        ``(mean, variance)``, each ``(*batch, d)``; the variance is > 0, in the squared unit of z.

    Raises:
        TypeError: if an argument is no dense floating-point tensor, or the dtypes differ.
        ValueError: if shapes or devices do not fit.

    Gradient:
        Smooth, of any order, in all arguments.

    Reference:
        Zheng and Sun 2019, Lr-LiVAE, Eq. (11).

    Example:
        >>> mean, variance = total_gaussian(torch.tensor([[1.0], [-1.0]]), torch.zeros(2, 1))
        >>> round(mean.item(), 4), round(variance.item(), 4)  # 1 inside, 1 between the classes
        (0.0, 2.0)
    """
    wide, narrow = _check_parameters(means, log_variances)
    check_priors(priors, means)
    mean, variance = _total(
        means.to(wide), log_variances.to(wide), _log_priors(priors, means, wide)
    )
    return mean.to(narrow), variance.to(narrow)


def total_log_density(
    z: Tensor, means: Tensor, log_variances: Tensor, *, priors: Tensor | None = None
) -> Tensor:
    r"""Log-density of every sample under one Gaussian with the mixture's mean and variance.

    .. math:: \log \mathcal N(z_m; \mu_t, \Sigma_t), \qquad \Sigma_t = \mathrm{diag}(\sigma_t^2)

    with :func:`total_gaussian`'s mean and variance. It stands in for the mixture where a sample has
    no label and may be of a class that the mixture does not know.

    Args:
        z: see :func:`class_log_densities`.
        means: ``(*batch, C, d)``, the class means μ.
        log_variances: shape of ``means``, the logarithms of the variances σ².
        priors: ``(C,)`` class probabilities, non-negative, divided by their sum; ``None`` is 1/C.

    Returns:
        ``(*batch, n)``, of any sign, in nats.

    Raises:
        TypeError: if an argument is no dense floating-point tensor, or the dtypes differ.
        ValueError: if shapes or devices do not fit.

    Gradient:
        Smooth, of any order, in all arguments.

    Reference:
        Zheng and Sun 2019, Lr-LiVAE, Eq. (7) with the Gaussian of Eq. (11).

    Example:
        >>> means, log_variances = torch.tensor([[1.0], [-1.0]]), torch.zeros(2, 1)
        >>> round(total_log_density(torch.zeros(1, 1), means, log_variances).item(), 4)  # σ² = 2
        -1.2655
    """
    mix = prepare(z, means, log_variances, priors)
    mean, variance = _total(mix.means, mix.log_variances, mix.log_priors)
    mean, log_variance = mean.unsqueeze(-2), variance.log().unsqueeze(-2)  # (*B, 1, D)
    total = Mixture(mix.z, mean, log_variance, mix.log_priors, mix.narrow)
    return _log_densities(total).squeeze(-1).to(mix.narrow)


class Mixture(NamedTuple):
    """Checked arguments in the dtype to compute in, and the dtype to return."""

    z: Tensor  # (*B, N, D)
    means: Tensor  # (*B, C, D)
    log_variances: Tensor  # (*B, C, D)
    log_priors: Tensor  # (C,)
    narrow: torch.dtype


def prepare(
    z: Tensor, means: Tensor, log_variances: Tensor, priors: Tensor | None = None
) -> Mixture:
    """Check samples and mixture and bring them to the dtype to compute in.

    Autocast needs no switching off for what follows: it leaves float64, the dtype of the only
    matrix products here, alone.
    """
    z = as_samples("z", z)
    wide, narrow = _check_parameters(means, log_variances)
    if z.shape[-1] != means.shape[-1]:
        raise ValueError(
            f"z and means need the same number of features, got {z.shape[-1]} and {means.shape[-1]}"
        )
    broadcast_batch(z=z.shape[:-2], means=means.shape[:-2])
    check_same_kind(z=z, means=means)
    check_priors(priors, means)
    if autocasts(z):
        wide = narrow = torch.promote_types(wide, compute_dtype(z))
    log_priors = _log_priors(priors, means, wide)
    return Mixture(z.to(wide), means.to(wide), log_variances.to(wide), log_priors, narrow)


def half_squared_distances(mix: Mixture) -> Tensor:
    """Half the squared Mahalanobis distances d_mc of samples and classes, (*B, N, C)."""
    size = mix.z.shape[-2] * mix.means.shape[-2] * mix.means.shape[-1]
    # Apple's GPUs have no float64, which the products need.
    direct = size <= DIRECT_LIMIT or mix.z.device.type == "mps"
    distances = _direct_distances if direct else _expanded_distances
    return distances(mix.z, mix.means, mix.log_variances)


def half_log_determinants(mix: Mixture) -> Tensor:
    """½ log |Σ_c| of every class, (*B, 1, C)."""
    return 0.5 * mix.log_variances.sum(dim=-1).unsqueeze(-2)


def _log_densities(mix: Mixture) -> Tensor:
    constant = mix.z.shape[-1] * HALF_LOG_2PI
    return -half_squared_distances(mix) - half_log_determinants(mix) - constant


def _direct_distances(z: Tensor, means: Tensor, log_variances: Tensor) -> Tensor:
    # Scaled before the square: σ² itself may be beyond the range of the dtype.
    scale = (-0.5 * log_variances).exp().unsqueeze(-3)  # (*B, 1, C, D)
    differences = z.unsqueeze(-2) - means.unsqueeze(-3)  # (*B, N, C, D)
    return 0.5 * (differences * scale).square().sum(dim=-1)


def _expanded_distances(z: Tensor, means: Tensor, log_variances: Tensor) -> Tensor:
    # The three terms cancel for a sample near its mean, so they are formed in float64.
    centre = means.mean(dim=-2, keepdim=True).detach()  # any shift is right; this one cancels least
    x, m = (z - centre).double(), (means - centre).double()
    precisions = (-log_variances.double()).exp()  # (*B, C, D)
    own = (precisions * m.square()).sum(dim=-1).unsqueeze(-2)  # (*B, 1, C)
    distances = 0.5 * (x.square() @ precisions.mT + own) - x @ (precisions * m).mT
    return distances.to(z.dtype)


def _total(means: Tensor, log_variances: Tensor, log_priors: Tensor) -> tuple[Tensor, Tensor]:
    p = log_priors.exp().unsqueeze(-1)  # (C, 1)
    mean = (p * means).sum(dim=-2, keepdim=True)
    variance = (p * (log_variances.exp() + (means - mean).square())).sum(dim=-2)
    return mean.squeeze(-2), variance


def _log_priors(priors: Tensor | None, means: Tensor, dtype: torch.dtype) -> Tensor:
    """Log-probabilities of the classes, (C,)."""
    if priors is None:
        classes = means.shape[-2]
        return means.new_full((classes,), -math.log(classes), dtype=dtype)
    p = priors.to(dtype)
    return (p / p.sum()).log()


def _check_parameters(means: Tensor, log_variances: Tensor) -> tuple[torch.dtype, torch.dtype]:
    """Check the parameters of a mixture; return the dtypes to compute in and to return."""
    check_tensor("means", means)
    check_tensor("log_variances", log_variances)
    if means.ndim < 2 or 0 in means.shape[-2:]:
        raise ValueError(
            f"means must have shape (*batch, C, d), C and d at least 1, got {tuple(means.shape)}"
        )
    if log_variances.shape != means.shape:
        raise ValueError(
            f"log_variances must have the shape of means, {tuple(means.shape)}, "
            f"got {tuple(log_variances.shape)}"
        )
    check_same_kind(means=means, log_variances=log_variances)
    wide = torch.promote_types(compute_dtype(means), compute_dtype(log_variances))
    return wide, wide if autocasts(means) else means.dtype


def check_priors(priors: Tensor | None, means: Tensor) -> None:
    """Refuse class probabilities that do not fit the mixture; ``None`` is passed over."""
    if priors is None:
        return
    check_tensor("priors", priors)
    if priors.shape != means.shape[-2:-1]:
        raise ValueError(
            f"priors must have one number per class, shape ({means.shape[-2]},), "
            f"got {tuple(priors.shape)}"
        )
    check_same_kind(means=means, priors=priors)
