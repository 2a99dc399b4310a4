"""The statistics under the names of the package dcor: ``import dcorr.dcor_names as dcor``.

Values are those of dcor for the same data; tensors go in and come out, with gradients. dcor's
``compile_mode`` has no counterpart, and ``method`` names the methods of :func:`dcorr.dcov2`, as
``group`` names its processes.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from dcorr import distance_covariance as _family
from dcorr import partial_distance_covariance as _partial
from dcorr._distance_statistics import Settings, prepare, root
from dcorr._process_group import Group, together


class Stats(NamedTuple):
    """The statistics of a pair of samples, each of shape ``batch``."""

    covariance_xy: Tensor
    correlation_xy: Tensor
    variance_x: Tensor
    variance_y: Tensor


def distance_covariance(
    x: Tensor, y: Tensor, *, exponent: float = 1.0, method: str = "auto", group: Group = None
) -> Tensor:
    """Return dCov: :func:`dcorr.dcov`.

    >>> import torch
    >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    >>> round(distance_covariance(x, x).item(), 4)
    1.3064
    """
    return _family.dcov(x, y, exponent=exponent, method=method, group=group)


def distance_covariance_sqr(
    x: Tensor, y: Tensor, *, exponent: float = 1.0, method: str = "auto", group: Group = None
) -> Tensor:
    """Return dCov²: :func:`dcorr.dcov2`.

    >>> import torch
    >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    >>> round(distance_covariance_sqr(x, x).item(), 4)
    1.7068
    """
    return _family.dcov2(x, y, exponent=exponent, method=method, group=group)


def u_distance_covariance_sqr(
    x: Tensor, y: Tensor, *, exponent: float = 1.0, method: str = "auto", group: Group = None
) -> Tensor:
    """Return the unbiased dCov²: :func:`dcorr.dcov2` with ``unbiased=True``.

    >>> import torch
    >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    >>> round(u_distance_covariance_sqr(x, x).item(), 4)
    1.5556
    """
    return _family.dcov2(x, y, unbiased=True, exponent=exponent, method=method, group=group)


def distance_correlation(
    x: Tensor, y: Tensor, *, exponent: float = 1.0, method: str = "auto", group: Group = None
) -> Tensor:
    """Return R: :func:`dcorr.dcor`.

    >>> import torch
    >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    >>> round(distance_correlation(x, -x).item(), 4)
    1.0
    """
    return _family.dcor(x, y, exponent=exponent, method=method, group=group)


def distance_correlation_sqr(
    x: Tensor, y: Tensor, *, exponent: float = 1.0, method: str = "auto", group: Group = None
) -> Tensor:
    """Return R²: :func:`dcorr.dcor2`.

    >>> import torch
    >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    >>> round(distance_correlation_sqr(x, -x).item(), 4)
    1.0
    """
    return _family.dcor2(x, y, exponent=exponent, method=method, group=group)


def u_distance_correlation_sqr(
    x: Tensor, y: Tensor, *, exponent: float = 1.0, method: str = "auto", group: Group = None
) -> Tensor:
    """Return the bias-corrected R²: :func:`dcorr.dcor2` with ``unbiased=True``.

    >>> import torch
    >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    >>> round(u_distance_correlation_sqr(x, -x).item(), 4)
    1.0
    """
    return _family.dcor2(x, y, unbiased=True, exponent=exponent, method=method, group=group)


def distance_stats(
    x: Tensor, y: Tensor, *, exponent: float = 1.0, method: str = "auto", group: Group = None
) -> Stats:
    """Return dCov, R and both dVar from one pass over the pairs.

    >>> import torch
    >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    >>> round(distance_stats(x, 2 * x).variance_y.item(), 4)
    2.6129
    """
    squares = distance_stats_sqr(x, y, exponent=exponent, method=method, group=group)
    return Stats(*(root(square) for square in squares))


def distance_stats_sqr(
    x: Tensor, y: Tensor, *, exponent: float = 1.0, method: str = "auto", group: Group = None
) -> Stats:
    """Return dCov², R² and both dVar² from one pass over the pairs.

    >>> import torch
    >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    >>> round(distance_stats_sqr(x, 2 * x).covariance_xy.item(), 4)
    3.4136
    """
    return _stats(x, y, False, exponent, method, group)


def u_distance_stats_sqr(
    x: Tensor, y: Tensor, *, exponent: float = 1.0, method: str = "auto", group: Group = None
) -> Stats:
    """Return the unbiased forms of :func:`distance_stats_sqr`.

    >>> import torch
    >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    >>> round(u_distance_stats_sqr(x, 2 * x).covariance_xy.item(), 4)
    3.1111
    """
    return _stats(x, y, True, exponent, method, group)


def partial_distance_covariance(x: Tensor, y: Tensor, z: Tensor, *, group: Group = None) -> Tensor:
    """Return the partial dCov²: :func:`dcorr.pdcov2`.

    >>> import torch
    >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    >>> round(partial_distance_covariance(x, x, torch.ones(6)).item(), 4)
    1.5556
    """
    return _partial.pdcov2(x, y, z, group=group)


def partial_distance_correlation(x: Tensor, y: Tensor, z: Tensor, *, group: Group = None) -> Tensor:
    """Return the partial distance correlation: :func:`dcorr.pdcor`.

    >>> import torch
    >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    >>> round(partial_distance_correlation(x, x, torch.ones(6)).item(), 4)
    1.0
    """
    return _partial.pdcor(x, y, z, group=group)


def _stats(
    x: Tensor, y: Tensor, unbiased: bool, exponent: float, method: str, group: Group
) -> Stats:
    with together(group, "distance_stats") as team:
        settings = Settings(unbiased=unbiased, exponent=exponent, method=method, group=group)
        samples = prepare({"x": x, "y": y}, None, settings, team)
    moments = samples.moments("x", "y", variances=True)
    values = samples.covariance(moments), samples.correlation(moments), *samples.variances(moments)
    return Stats(*(samples.result(value) for value in values))
