"""Which dimensions of a Gaussian code have collapsed to its prior: LORD's Fig. 8."""

from __future__ import annotations

import math
from typing import TypedDict

from torch import Tensor

from dcorr_models.metrics.probes import check_codes

__all__ = ["PosteriorCollapse", "posterior_collapse"]


class PosteriorCollapse(TypedDict):
    """What `posterior_collapse` returns."""

    at_prior: int
    dimensions: int
    absolute_mean: list[float]
    std: list[float]
    divergence: list[float]
    tolerance: float
    samples: int


def posterior_collapse(
    mean: Tensor, logvar: Tensor, *, tolerance: float = 0.1
) -> PosteriorCollapse:
    r"""Means and standard deviations of a code's posterior, each dimension averaged over the data.

    For dimension $d$: $\frac{1}{N} \sum_n \lvert \mu_{nd} \rvert$ and
    $\frac{1}{N} \sum_n \sigma_{nd}$, where $\sigma = e^{\mathrm{logvar} / 2}$. A dimension is at
    the prior N(0, 1), and tells nothing of an image, where the first is at most `tolerance` and the
    second within `tolerance` of 1.
    `divergence` is $\frac{1}{N} \sum_n \mathrm{KL}(N(\mu_{nd}, \sigma_{nd}^2) \| N(0, 1))$ in nats.

    Absolute means, because the means of a dimension that is in use lie on both sides of 0.

    Args:
        mean: Float (N, D), of the posterior of each image's code.
        logvar: Float (N, D), logarithms of its variances.
        tolerance: Above 0. The paper counts by eye; 0.1 bounds the divergence of a constant
            posterior by 0.016 nats.

    Returns:
        A dict: `at_prior`, how many of the `dimensions` are; the lists `absolute_mean`, `std` and
        `divergence` in the order of the dimensions; `tolerance`; and the number of `samples`.

    Raises:
        ValueError: If shapes differ, a number is NaN or infinite, or `tolerance` is not above 0.
        TypeError: If `mean` or `logvar` is not floating point.

    Reference:
        Gabbay and Hoshen (LORD), 2020, appendix A.3 and Fig. 8.

    Example:
        >>> import torch
        >>> mean = torch.tensor([[0.0, 2.0], [0.0, -2.0]])
        >>> result = posterior_collapse(mean, torch.tensor([[0.0, -8.0]] * 2))
        >>> result["at_prior"], result["absolute_mean"], round(result["std"][1], 4)
        (1, [0.0, 2.0], 0.0183)
    """
    check_codes("mean", mean)
    check_codes("logvar", logvar)
    if mean.shape != logvar.shape:
        raise ValueError(
            f"mean and logvar need one shape, got {tuple(mean.shape)} and {tuple(logvar.shape)}"
        )
    if not 0 < tolerance < math.inf:
        raise ValueError(f"tolerance must be above 0 and finite, got {tolerance}")
    mu, log_variance = (t.detach().cpu().double() for t in (mean, logvar))
    absolute, std = mu.abs().mean(dim=0), (log_variance / 2).exp().mean(dim=0)
    nats = 0.5 * (mu.square() + log_variance.exp() - log_variance - 1)
    collapsed = (absolute <= tolerance) & ((std - 1).abs() <= tolerance)
    return {
        "at_prior": int(collapsed.sum()),
        "dimensions": mu.shape[1],
        "absolute_mean": absolute.tolist(),
        "std": std.tolist(),
        "divergence": nats.mean(dim=0).tolist(),
        "tolerance": tolerance,
        "samples": len(mu),
    }
