"""Which dimensions of a code are in use, and what metrics of codes and factors ask of both."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from dcorr_models.metrics.probes import check_codes

__all__ = ["Cut", "active_dimensions", "check_factors", "check_varied", "require_two_active"]

Cut = Literal["variance", "std"]


def active_dimensions(codes: Tensor, *, cut: float = 0.05, of: Cut = "variance") -> Tensor:
    r"""Dimensions of a code that vary from sample to sample.

    Dimension $d$ is in use where its `variance` over the samples (divided by N − 1), or its
    standard deviation (`std`), is above 0 and at least `cut`. The means of a posterior whose prior
    is N(0, 1) have a variance near 0 where it has collapsed to the prior.

    Args:
        codes: Float (N, D), N at least 2, such as the posterior means of images.
        cut: 0 or more; 0 leaves constant dimensions out alone.
        of: What is compared with it. ID-GAN cuts the variance at 0.05, disentanglement_lib the
            standard deviation, which keeps more.

    Returns:
        A bool tensor (D,) on the CPU.

    Raises:
        ValueError: If the shape does not fit, a code is NaN or infinite, or `cut` is below 0.
        TypeError: If `codes` are not floating point.

    Reference:
        Lee et al. (ID-GAN), 2020, appendix, evaluation metrics.

    Example:
        >>> codes = torch.tensor([[0.0, 0.1, 3.0], [1.0, 0.2, 3.0]])
        >>> active_dimensions(codes).tolist(), active_dimensions(codes, of="std").tolist()
        ([True, False, False], [True, True, False])
    """
    check_codes("codes", codes)
    if len(codes) < 2:
        raise ValueError(f"codes need at least two samples, got {len(codes)}")
    if not 0 <= cut < math.inf:
        raise ValueError(f"cut must be 0 or more and finite, got {cut}")
    if of not in ("variance", "std"):
        raise ValueError(f"of must be 'variance' or 'std', got {of!r}")
    x = codes.detach().cpu().double()
    # by the range: rounding leaves a constant column with a variance that is not quite 0
    varies = x.amax(dim=0) > x.amin(dim=0)
    spread = x.var(dim=0) if of == "variance" else x.std(dim=0)
    return varies & (spread >= cut)


def require_two_active(codes: Tensor, *, cut: float = 0.0, of: Cut = "variance") -> Tensor:
    """`active_dimensions`, at least two of them: with fewer nothing can be told apart.

    Raises:
        ValueError: If there are fewer, besides what `active_dimensions` raises.
    """
    active = active_dimensions(codes, cut=cut, of=of)
    count = int(active.sum())
    if count < 2:
        words = "varies" if cut == 0 else f"has a {of} of at least {cut:g}"
        raise ValueError(
            f"{count} of {len(active)} dimensions of the codes {words}, and at least two are "
            "needed: the encoder has collapsed, train it with a weaker regulariser"
        )
    return active


def check_factors(codes: Tensor, factors: Tensor, *, names: str = "codes and factors") -> None:
    """Codes and the factors behind them: int64 (N, F), no factor negative.

    Raises:
        ValueError: If shapes do not fit, or a number is negative, NaN or infinite.
        TypeError: If `codes` are not floating point or `factors` not int64.
    """
    check_codes(names.partition(" ")[0], codes)
    if factors.dtype != torch.int64:
        raise TypeError(f"factors must be int64, got {factors.dtype}")
    if factors.ndim != 2 or factors.shape[1] == 0:
        raise ValueError(f"factors must have shape (N, F), got {tuple(factors.shape)}")
    if len(factors) != len(codes):
        raise ValueError(
            f"{names} need the same number of samples, got {len(codes)} and {len(factors)}"
        )
    if int(factors.min()) < 0:
        raise ValueError(f"factors must be numbers from 0 on, got {int(factors.min())}")


def check_varied(factors: Tensor) -> None:
    """Every factor has at least two values.

    Raises:
        ValueError: If one has a single value: nothing can be said of it.
    """
    constant = (factors.amax(dim=0) == factors.amin(dim=0)).nonzero()[:, 0].tolist()
    if constant:
        raise ValueError(f"factor {constant[0]} has one value in all samples: leave its column out")
