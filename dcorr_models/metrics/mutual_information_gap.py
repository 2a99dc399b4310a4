"""The mutual information gap: does one dimension know a factor, and no second one?"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import numpy.typing as npt
from torch import Tensor

from dcorr_models.metrics.active_dimensions import (
    check_factors,
    check_varied,
    require_two_active,
)
from dcorr_models.metrics.probes import as_array

__all__ = ["MutualInformationGap", "mutual_information_gap"]


class MutualInformationGap(TypedDict):
    """What `mutual_information_gap` returns."""

    mig: float
    per_factor: list[float]
    best_dimensions: list[int]
    mutual_information: list[list[float]]
    entropy: list[float]
    bins: int
    samples: int
    dimensions: int


def mutual_information_gap(
    codes: Tensor, factors: Tensor, *, bins: int = 20
) -> MutualInformationGap:
    r"""How much more the best dimension of a code tells of a factor than the second best.

    $\mathrm{MIG} = \frac{1}{F} \sum_k
    \bigl(I(z_{d_k}; v_k) - \max_{d \ne d_k} I(z_d; v_k)\bigr) / H(v_k)$ with
    $d_k = \arg\max_d I(z_d; v_k)$: mutual informations and entropies in nats from counts, each
    dimension cut into bins of equal width between its least and greatest value. The divisor is the
    factor's own entropy over the samples. No correction is made for few samples: a dimension that
    knows nothing has a mutual information a little above 0.

    All dimensions take part. One that the decoder passes over may still know a factor, in numbers
    near 0: bins know no scale, which is how it is published.

    Args:
        codes: Float (N, D), such as posterior means, at least two dimensions not constant.
        factors: int64 (N, F), the number of each factor's value, none constant.
        bins: 2 or more.

    Returns:
        A dict: `mig`, and `per_factor` its terms, from 0 to 1, higher is better; for each factor
        the dimension that knows most; `mutual_information` (D, F) and `entropy` (F) in nats.

    Raises:
        ValueError: If shapes do not fit, fewer than two dimensions vary, a factor is constant, or
            `bins` is below 2.
        TypeError: If `codes` are not floating point or `factors` not int64.

    Reference:
        Chen, Li, Grosse and Duvenaud, Isolating sources of disentanglement, 2018, equation 6;
        20 bins as in Locatello et al., 2019.

    Example:
        >>> import torch
        >>> factors = torch.cartesian_prod(torch.arange(4), torch.arange(5))
        >>> mutual_information_gap(factors.double(), factors)["mig"]
        1.0
    """
    check_factors(codes, factors)
    check_varied(factors)
    if bins < 2:
        raise ValueError(f"bins must be 2 or more, got {bins}")
    require_two_active(codes)
    x = as_array(codes)
    # a value may be any number
    known = np.stack([np.unique(k, return_inverse=True)[1] for k in as_array(factors).T], axis=1)
    binned = [_binned(column, bins) for column in x.T]
    information = np.array([[_shared(d, k) for k in known.T] for d in binned])  # (D, F)
    entropy = np.array([_shared(k, k) for k in known.T])
    ordered = np.sort(information, axis=0)
    gaps = (ordered[-1] - ordered[-2]) / entropy
    return {
        "mig": float(gaps.mean()),
        "per_factor": gaps.tolist(),
        "best_dimensions": information.argmax(axis=0).tolist(),
        "mutual_information": information.tolist(),
        "entropy": entropy.tolist(),
        "bins": bins,
        "samples": len(x),
        "dimensions": x.shape[1],
    }


def _binned(column: npt.NDArray[np.float64], bins: int) -> npt.NDArray[np.int64]:
    """The bin of each value; the greatest belongs to the last one."""
    low, high = column.min(), column.max()
    if low == high:
        return np.zeros(len(column), dtype=np.int64)
    inner: npt.NDArray[np.float64] = np.linspace(low, high, bins + 1)[1:-1]
    return np.searchsorted(inner, column, side="right")


def _shared(one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> float:
    """Mutual information in nats; of a variable with itself, its entropy."""
    width = int(other.max()) + 1
    counts = np.bincount(one * width + other, minlength=(int(one.max()) + 1) * width)
    joint = counts.reshape(-1, width) / len(one)
    outer = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    there = joint > 0
    found = float((joint[there] * np.log(joint[there] / outer[there])).sum())
    return max(0.0, found)
