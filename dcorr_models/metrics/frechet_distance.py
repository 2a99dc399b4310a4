"""The Fréchet distance of two sets of features, each taken for a Gaussian."""

from __future__ import annotations

import math
import warnings
from typing import TypedDict

import torch
from torch import Tensor

from dcorr_models.metrics.probes import check_codes

__all__ = ["FrechetDistance", "frechet_distance"]


class FrechetDistance(TypedDict):
    """What `frechet_distance` returns."""

    distance: float
    features: str
    dimensions: int
    real_samples: int
    samples: int
    enough_samples: bool


def frechet_distance(real: Tensor, samples: Tensor, *, features: str) -> FrechetDistance:
    r"""How far the features of samples are from those of real images, by mean and covariance.

    $d^2 = \lVert \mu_1 - \mu_2 \rVert^2
    + \operatorname{tr}\bigl(\Sigma_1 + \Sigma_2 - 2 (\Sigma_1 \Sigma_2)^{1/2}\bigr)$,
    with the covariances of the samples (divided by N − 1), in float64. The trace of the root is the
    sum of the singular values of $\Sigma_1^{1/2} \Sigma_2^{1/2}$, which exist for singular
    covariances too.

    It is called FID where the features are those of the published Inception-v3 and the samples
    50,000; any other network is another scale, and numbers of different networks, or of different
    numbers of samples, do not compare: the estimate is too high by a term that falls with the
    number of samples. With no more samples than dimensions a covariance is singular, and much of
    the distance is that term: then a warning is given, and `enough_samples` is False.

    Args:
        real: Float (N, F), features of real images, N at least 2.
        samples: Float (M, F), features of the samples, M at least 2.
        features: What the features are, for the result: nothing shall pass for FID that is not.

    Returns:
        A dict of the `distance` d² (0 for equal means and covariances, in squared units of the
        features), the name of the `features`, the sizes, and `enough_samples`.

    Raises:
        ValueError: If shapes do not fit, there are fewer than two samples, or a feature is NaN or
            infinite.
        TypeError: If features are not floating point.

    Reference:
        Heusel et al., GANs trained by a two time-scale update rule, 2017, equation 6.

    Example:
        >>> real = torch.tensor([[-1.0], [0.0], [1.0]])
        >>> round(frechet_distance(real, 2 * real + 3, features="numbers")["distance"], 4)
        10.0
    """
    for name, given in (("real", real), ("samples", samples)):
        check_codes(name, given)
        if len(given) < 2:
            raise ValueError(f"{name} needs at least two samples, got {len(given)}")
    if real.shape[1] != samples.shape[1]:
        raise ValueError(
            "real and samples need the same number of dimensions, "
            f"got {real.shape[1]} and {samples.shape[1]}"
        )
    fewest, dimensions = min(len(real), len(samples)), real.shape[1]
    if fewest <= dimensions:
        warnings.warn(
            f"{fewest} samples of {dimensions} features: the Fréchet distance is mostly the error "
            "of its covariances; take more samples than features",
            stacklevel=2,
        )
    one, two = (given.detach().cpu().double() for given in (real, samples))
    shift = (one.mean(dim=0) - two.mean(dim=0)).square().sum()
    first, second = (_centred(part) for part in (one, two))
    spread = first.square().sum() + second.square().sum()
    # With Σ = AᵀA, the root of Σ₁Σ₂ has the trace of the singular values of A₁A₂ᵀ: no covariance is
    # squared, no root taken of a rounded negative eigenvalue.
    shared = torch.linalg.svdvals(_square(first) @ _square(second).T).sum()
    return {
        "distance": max(0.0, (shift + spread - 2 * shared).item()),
        "features": features,
        "dimensions": dimensions,
        "real_samples": len(real),
        "samples": len(samples),
        "enough_samples": fewest > dimensions,
    }


def _centred(features: Tensor) -> Tensor:
    """A with AᵀA the covariance."""
    return (features - features.mean(dim=0)) / math.sqrt(len(features) - 1)


def _square(root: Tensor) -> Tensor:
    """A smaller matrix R with RᵀR = AᵀA, where A has more rows than columns."""
    if len(root) <= root.shape[1]:
        return root
    upper: Tensor = torch.linalg.qr(root, mode="r")[1]
    return upper
