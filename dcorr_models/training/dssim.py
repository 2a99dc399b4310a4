"""Structural dissimilarity from multi-scale SSIM, as a loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from dcorr_models.metrics.image_quality import ms_ssim_weights

__all__ = ["dssim", "multi_scale_ssim"]

_TAPS, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2  # (K1 · peak)², (K2 · peak)²


def dssim(
    x: Tensor,
    y: Tensor,
    *,
    value_range: tuple[float, float] = (0.0, 1.0),
    weights: Sequence[float] | None = None,
    floor: float = 0.01,
) -> Tensor:
    """Structural dissimilarity, the mean over the images: `mean_n ½ (1 - MS-SSIM(x_n, y_n))`.

    Args:
        x: float tensor (N, C, H, W), in `value_range`.
        y: float tensor of the same shape.
        value_range: lowest and highest value of an image; it is mapped to [0, 1].
        weights: see `multi_scale_ssim`.
        floor: see `multi_scale_ssim`.

    Returns:
        A scalar from 0, for equal images, to ½; float32 (float64 for float64 images).

    Raises:
        ValueError: shapes that differ or are too small; see `multi_scale_ssim`.

    Reference:
        Song, Koyejo and Zhang 2019 (mddAE), Eq. 6.

    Example:
        >>> image = torch.linspace(0, 1, 64 * 64).reshape(1, 1, 64, 64)
        >>> round(dssim(image, image).item(), 4), round(dssim(image, 1 - image).item(), 2)
        (0.0, 0.5)
    """
    low, high = value_range
    if not low < high:
        raise ValueError(f"value_range needs low < high, got {value_range}")
    x, y = ((_at_least_float32(image) - low) / (high - low) for image in (x, y))
    return 0.5 * (1 - multi_scale_ssim(x, y, weights=weights, floor=floor)).mean()


def multi_scale_ssim(
    x: Tensor, y: Tensor, *, weights: Sequence[float] | None = None, floor: float = 0.01
) -> Tensor:
    """Multi-scale structural similarity of each image, with a gradient that is always finite.

    With M scales, each made of the one before by 2x2 averaging, `SSIM_M` the mean SSIM of the
    coarsest and `CS_j` the mean contrast-structure term of scale j,

        MS-SSIM = s(SSIM_M)^w_M · Π_{j<M} s(CS_j)^w_j,
        s(c) = c for c > floor,  floor² / (2 floor - c) otherwise.

    The metric has s(c) = max(c, 0), whose power has an unbounded gradient at 0 and none below, and
    untrained reconstructions may lie there. The hyperbola goes on from `floor` with the same slope
    and stays positive. Where no term is below `floor`, the value is that of the metric,
    `dcorr_models.metrics.image_quality.ms_ssim`: Gaussian window of 11 taps, σ = 1.5, K1 = 0.01,
    K2 = 0.03; borders reflected in `SSIM_M` and left out of `CS_j`.

    Args:
        x: float tensor (N, C, H, W), in [0, 1].
        y: float tensor of the same shape.
        weights: w_1 .. w_M, the finest scale first; by default those that `ms_ssim_weights` gives
            for the smaller image side: 3 scales at 64 pixels, 2 at 28.
        floor: the smallest term that counts as it is; in (0, 1].

    Returns:
        (N,) float32 (float64 for float64 images), above 0 and at most 1.

    Raises:
        ValueError: shapes that differ or are not (N, C, H, W); images too small for the 11 taps at
            the coarsest scale; no weights; `floor` outside (0, 1].

    Gradient:
        Zero where the images are equal. Computed in float32 also under autocast: variances are
        small differences.

    Reference:
        Wang, Simoncelli and Bovik, Multi-scale structural similarity for image quality assessment,
        2003, equation 7, with fewer scales for small images.

    Example:
        >>> black, white = torch.zeros(2, 1, 28, 28), torch.ones(2, 1, 28, 28)
        >>> [round(v, 4) for v in multi_scale_ssim(black, black).tolist()]
        [1.0, 1.0]
        >>> bool((multi_scale_ssim(black, white) < 0.1).all())
        True
    """
    if x.shape != y.shape or x.ndim != 4:
        raise ValueError(
            f"x and y must have the same shape (N, C, H, W), got {tuple(x.shape)} and "
            f"{tuple(y.shape)}"
        )
    if not 0 < floor <= 1:
        raise ValueError(f"floor must lie in (0, 1], got {floor}")
    smaller = min(x.shape[-2:])
    if weights is None:
        weights = ms_ssim_weights(smaller)
    if not weights or smaller >> (len(weights) - 1) < _TAPS:
        raise ValueError(
            f"{len(weights)} scales do not fit images of side {smaller}: at least 1 scale, and "
            f"{_TAPS} pixels at the coarsest"
        )
    with torch.autocast(x.device.type, enabled=False):
        x, y = _at_least_float32(x), _at_least_float32(y)
        result = x.new_ones(len(x))
        for scale, weight in enumerate(weights):
            if scale > 0:
                x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
            coarsest = scale == len(weights) - 1
            term = _mean_similarity(x, y, coarsest=coarsest)
            # The clamp holds where the hyperbola is taken: no division by 0 behind `where`.
            below = floor**2 / (2 * floor - term.clamp_max(floor))
            result = result * torch.where(term > floor, term.clamp_min(floor), below) ** weight
        return result


def _at_least_float32(images: Tensor) -> Tensor:
    return images if images.dtype == torch.float64 else images.float()


def _mean_similarity(x: Tensor, y: Tensor, *, coarsest: bool) -> Tensor:
    """(N,) means over channels and pixels: of SSIM on the coarsest scale, else of CS."""
    mean_x, mean_y = _blur(x, padded=coarsest), _blur(y, padded=coarsest)
    mean_product = mean_x * mean_y
    mean_squares = mean_x.square() + mean_y.square()
    # The two variances occur as their sum alone: one window fewer.
    variances = _blur(x.square() + y.square(), padded=coarsest) - mean_squares
    covariance = _blur(x * y, padded=coarsest) - mean_product
    similarity = (2 * covariance + _C2) / (variances.clamp_min(0) + _C2)
    if coarsest:
        similarity = similarity * (2 * mean_product + _C1) / (mean_squares + _C1)
    return similarity.flatten(1).mean(dim=1)


def _blur(images: Tensor, *, padded: bool) -> Tensor:
    """Gaussian window over the last two dimensions: two products with banded matrices.

    The window is separable, and at these sizes a matrix product is the quickest way to slide it.
    """
    height, width = images.shape[-2:]
    rows = _window_matrix(height, padded, images.device, images.dtype)
    columns = _window_matrix(width, padded, images.device, images.dtype)
    return rows @ (images @ columns.T)


@lru_cache(maxsize=32)
def _window_matrix(side: int, padded: bool, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(out, side): row i is the window around pixel i; borders reflected, or left out.

    Kept on the device: sending it there in every step would make the host wait.
    """
    middle = _TAPS // 2
    window = [math.exp(-0.5 * ((tap - middle) / _SIGMA) ** 2) for tap in range(_TAPS)]
    first, out = (-middle, side) if padded else (0, side - _TAPS + 1)
    rows = [[0.0] * side for _ in range(out)]
    for i, row in enumerate(rows):
        for tap, value in enumerate(window):
            column = abs(i + first + tap)  # reflected without repeating the border pixel
            row[min(column, 2 * (side - 1) - column)] += value / sum(window)
    # An inference tensor in the cache would be refused by the next backward.
    with torch.inference_mode(False):
        return torch.tensor(rows, dtype=dtype, device=device)
