"""How much of each class's points the generated ones reach, along the axis of the class."""

from __future__ import annotations

from typing import TypedDict

import torch
from torch import Tensor

from dcorr_models.metrics.probes import check_codes

__all__ = ["AxisCoverage", "axis_coverage"]


class AxisCoverage(TypedDict):
    """What `axis_coverage` returns."""

    coverage: float
    wasserstein: float
    wasserstein_across: float
    per_class: list[float]
    classes: list[int]
    bins: int
    least: float
    real_points: int
    points: int


def axis_coverage(
    real: Tensor,
    real_labels: Tensor,
    points: Tensor,
    labels: Tensor,
    *,
    bins: int = 20,
    least: float = 0.1,
) -> AxisCoverage:
    r"""The share of a class's long axis that generated points reach, and how they spread along it.

    A class of few-dimensional points varies, beside noise, along an axis that the label does not
    tell: the angle of a moon. Its coordinate is taken along the direction in which the real points
    of the class spread most (the first principal component). For a half circle that is the
    coordinate $\cos\theta$ along its chord, which rises from one end to the other, so that points
    of one coordinate are one place of the moon; a class that bends back over itself would need its
    own coordinate.

    - Quantiles of the real points' coordinate cut the axis into bins with equally many of them,
      the outer two unbounded. A bin is *reached* if it has at least the share `least` of what is
      due to it, $M / \mathrm{bins}$ of M generated points: one stray point of a thousand is no
      coverage. `coverage` is the share of bins reached, mean over the classes: 1 for points like
      the real ones, 1 / bins for points that are all alike.
    - `wasserstein` is the one-dimensional Wasserstein-1 distance of generated and real points along
      that direction: it also sees how evenly the axis is filled. `wasserstein_across` is the mean
      of the same along the other principal components: points that reach every bin but lie off the
      class are far there.

    Args:
        real: Float (N, D), points of the data, such as images (N, D, 1, 1) flattened.
        real_labels: int64 (N,), their classes; every one needs at least `bins` points.
        points: Float (M, D), generated points.
        labels: int64 (M,), the class that each was made for; all that `real_labels` has.
        bins: Of the axis, at least 2.
        least: Above 0, at most 1.

    Returns:
        A dict: `coverage` from 0 to 1 (higher is better) and `per_class`, both distances in units
        of the points (lower is better), means over the classes; and the sizes, the fewest points of
        a class.

    Raises:
        ValueError: If shapes do not fit, a point is NaN or infinite, a class has too few points, or
            `bins` or `least` is out of range.
        TypeError: If points are not floating point or labels not int64.

    Example:
        >>> line = torch.linspace(-1, 1, 400)[:, None]
        >>> one = torch.zeros(400, dtype=torch.int64)
        >>> axis_coverage(line, one, line, one)["coverage"]
        1.0
        >>> half = axis_coverage(line, one, line.abs(), one)
        >>> half["coverage"], round(half["wasserstein"], 2)
        (0.5, 0.5)
    """
    _check(real, real_labels, points, labels, bins, least)
    classes = torch.unique(real_labels).tolist()
    covered, along, across = [], [], []
    for label in classes:
        one, two = (
            p.detach().cpu().double()[mask.cpu() == label]
            for p, mask in ((real, real_labels), (points, labels))
        )
        directions = torch.linalg.svd(one - one.mean(dim=0), full_matrices=False).Vh
        own, made = (directions @ part.T for part in (one, two))  # (D, N) and (D, M)
        covered.append(_covered(own[0], made[0], bins, least))
        distances = [_wasserstein(*pair) for pair in zip(own, made, strict=True)]
        along.append(distances[0])
        across.append(sum(distances[1:]) / max(1, len(distances) - 1))
    return {
        "coverage": _mean(covered),
        "wasserstein": _mean(along),
        "wasserstein_across": _mean(across),
        "per_class": covered,
        "classes": classes,
        "bins": bins,
        "least": least,
        "real_points": _fewest(real_labels),
        "points": _fewest(labels),
    }


def _covered(real: Tensor, made: Tensor, bins: int, least: float) -> float:
    inner = torch.linspace(0, 1, bins + 1, dtype=torch.float64)[1:-1]
    edges = real.quantile(inner)
    counts = torch.bincount(torch.bucketize(made, edges), minlength=bins)
    return (counts >= least * len(made) / bins).double().mean().item()


def _wasserstein(one: Tensor, two: Tensor) -> float:
    from scipy.stats import wasserstein_distance

    return float(wasserstein_distance(one.numpy(), two.numpy()))


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _fewest(labels: Tensor) -> int:
    return int(torch.unique(labels, return_counts=True)[1].min())


def _check(
    real: Tensor, real_labels: Tensor, points: Tensor, labels: Tensor, bins: int, least: float
) -> None:
    for name, given, which in (("real", real, real_labels), ("points", points, labels)):
        check_codes(name, given)
        if which.dtype != torch.int64:
            raise TypeError(f"labels of {name} must be int64, got {which.dtype}")
        if which.shape != given.shape[:1]:
            raise ValueError(
                f"labels of {name} must have shape ({len(given)},), got {tuple(which.shape)}"
            )
    if real.shape[1] != points.shape[1]:
        raise ValueError(
            "real and points need the same number of dimensions, "
            f"got {real.shape[1]} and {points.shape[1]}"
        )
    if bins < 2 or not 0 < least <= 1:
        raise ValueError(
            f"bins must be 2 or more and least above 0 and at most 1, got {bins} and {least}"
        )
    if _fewest(real_labels) < bins:
        raise ValueError(
            f"every class needs at least {bins} real points, one a bin, got {_fewest(real_labels)}"
        )
    known, made = (set(torch.unique(which).tolist()) for which in (real_labels, labels))
    if known != made:
        raise ValueError(
            f"real and points need the same classes, got {sorted(known)} and {sorted(made)}"
        )
