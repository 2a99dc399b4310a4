"""How close reconstructions come to their images: RMSE, PSNR and MS-SSIM, image by image."""

from __future__ import annotations

from typing import NotRequired, TypedDict

import torch
from torch import Tensor

__all__ = [
    "ImageQuality",
    "Spread",
    "image_quality",
    "ms_ssim",
    "ms_ssim_weights",
    "psnr",
    "rmse",
]

# Wang, Simoncelli and Bovik 2003, section 3.2; the finest scale first
_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
# The smallest side for 1, 2, ... scales: the 11-tap window has to fit the coarsest one, which is
# 11 * 2**(scales - 1); torchmetrics asks for more at four scales, side // 3**2 > 10.
_SMALLEST_SIDES = (11, 22, 44, 99, 176)
_SMALLEST_MSE = 1e-10  # caps the PSNR at 100 dB, so that means stay finite
_CHUNK = 256  # images at a time: MS-SSIM holds ten copies of them


class Spread(TypedDict):
    """Mean and standard deviation over the images (divided by their number)."""

    mean: float
    std: float


class ImageQuality(TypedDict):
    """What `image_quality` measures; serialises to JSON as it is."""

    rmse: Spread
    psnr: Spread
    ms_ssim: NotRequired[Spread]
    ms_ssim_scales: NotRequired[int]
    ms_ssim_weights: NotRequired[list[float]]
    value_range: list[float]
    images: int


@torch.no_grad()
def image_quality(
    originals: Tensor, reconstructions: Tensor, *, value_range: tuple[float, float] = (0.0, 1.0)
) -> ImageQuality:
    """RMSE, PSNR and MS-SSIM of reconstructions, each per image, as mean ± std over the images.

    Both images are mapped from `value_range` to [0, 1] by `(x - low) / (high - low)`, without
    clamping, so that the peak is 1. Then, for each image, `rmse`, `psnr` and `ms_ssim`; the means
    and standard deviations (the population's, divided by N) are taken last, over the images.
    The mean PSNR is therefore not the PSNR of the mean RMSE.

    Args:
        originals: Float tensor (N, C, H, W), N > 0, in `value_range`.
        reconstructions: Float tensor of the same shape.
        value_range: Lowest and highest value that an image can have.

    Returns:
        A dict with `rmse` (unit: the peak), `psnr` (dB) and `ms_ssim` (0 to 1), each a dict of
        `mean` and `std`; the number of scales of MS-SSIM and their weights; `value_range`; the
        number of `images`. Below 11 pixels MS-SSIM is not defined, and its keys are left out.

    Raises:
        ValueError: If the shapes differ or are not (N, C, H, W), or a value is NaN or infinite.
        TypeError: If a tensor is not floating point.

    Reference:
        The protocol of CDNet's and mddAE's tables: per image, mean ± std, peak 1.

    Example:
        >>> images = torch.zeros(4, 1, 28, 28)
        >>> quality = image_quality(images, images + 0.1)
        >>> round(quality["rmse"]["mean"], 4), round(quality["psnr"]["mean"], 4)
        (0.1, 20.0)
        >>> quality["ms_ssim_scales"]
        2
    """
    _check_pair(originals, reconstructions)
    low, high = value_range
    if not low < high:
        raise ValueError(f"value_range needs low < high, got {value_range}")
    for name, images in (("originals", originals), ("reconstructions", reconstructions)):
        if not images.isfinite().all():
            raise ValueError(f"{name} must be finite, got NaN or infinity")
    x, y = ((t.float() - low) / (high - low) for t in (originals, reconstructions))
    quality: ImageQuality = {
        "rmse": _spread(rmse(x, y)),
        "psnr": _spread(psnr(x, y)),
        "value_range": [float(low), float(high)],
        "images": len(x),
    }
    if min(x.shape[-2:]) >= _SMALLEST_SIDES[0]:
        weights = ms_ssim_weights(min(x.shape[-2:]))
        quality["ms_ssim"] = _spread(ms_ssim(x, y))
        quality["ms_ssim_scales"] = len(weights)
        quality["ms_ssim_weights"] = [round(weight, 6) for weight in weights]
    return quality


def rmse(x: Tensor, y: Tensor) -> Tensor:
    """Root mean squared error of each image: `sqrt(mean over C, H, W of (x - y)²)`.

    Args:
        x: Float tensor (N, C, H, W).
        y: Float tensor of the same shape.

    Returns:
        Shape (N,), not negative, in the unit of the images.

    Raises:
        ValueError: If the shapes differ or are not (N, C, H, W).
        TypeError: If a tensor is not floating point.

    Gradient:
        Undefined (NaN) for an image that equals its reconstruction; this is a metric, no loss.

    Example:
        >>> rmse(torch.zeros(2, 1, 3, 3), torch.full((2, 1, 3, 3), 0.5)).tolist()
        [0.5, 0.5]
    """
    _check_pair(x, y)
    return (x - y).square().flatten(1).mean(dim=1).sqrt()


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image, peak 1: `-10 log10(max(MSE, 1e-10))`.

    Args:
        x: Float tensor (N, C, H, W), in [0, 1].
        y: Float tensor of the same shape.

    Returns:
        Shape (N,), in dB, at most 100, which stands for equal images.

    Raises:
        ValueError: If the shapes differ or are not (N, C, H, W).
        TypeError: If a tensor is not floating point.

    Gradient:
        Zero where the cap holds.

    Example:
        >>> psnr(torch.zeros(1, 1, 3, 3), torch.full((1, 1, 3, 3), 0.1)).item()
        20.0
    """
    _check_pair(x, y)
    mse = (x - y).square().flatten(1).mean(dim=1)
    return -10.0 * mse.clamp_min(_SMALLEST_MSE).log10()


def ms_ssim(x: Tensor, y: Tensor) -> Tensor:
    """Multi-scale structural similarity of each image, peak 1, computed by torchmetrics.

    With M scales, each made of the one before by 2x2 averaging,
    `MS-SSIM = SSIM_M^w_M · Π_{j<M} CS_j^w_j`, where SSIM_M is the mean SSIM of the coarsest scale
    and CS_j the mean contrast-structure term of scale j, both cut off below 0. Gaussian
    window of 11 taps, σ = 1.5; K1 = 0.01, K2 = 0.03; borders reflected, and left out of CS_j but
    not of SSIM_M. M and w follow from the smaller image side, see `ms_ssim_weights`.

    Args:
        x: Float tensor (N, C, H, W), in [0, 1].
        y: Float tensor of the same shape.

    Returns:
        Shape (N,), from 0 to 1; 1 for equal images.

    Raises:
        ValueError: If the shapes differ, are not (N, C, H, W), or an image side is below 11.
        TypeError: If a tensor is not floating point.

    Gradient:
        Whatever torchmetrics gives; unbounded where a term is cut off at 0.

    Reference:
        Wang, Simoncelli and Bovik, Multi-scale structural similarity for image quality
        assessment, 2003, equation 7, with fewer scales for small images.

    Example:
        >>> image = torch.linspace(0, 1, 28 * 28).reshape(1, 1, 28, 28)
        >>> round(ms_ssim(image, image).item(), 4)
        1.0
    """
    from torchmetrics.functional.image import (
        multiscale_structural_similarity_index_measure as torchmetrics_ms_ssim,
    )

    _check_pair(x, y)
    weights = ms_ssim_weights(min(x.shape[-2:]))
    chunks = zip(torch.split(x, _CHUNK), torch.split(y, _CHUNK), strict=True)
    values = [
        torchmetrics_ms_ssim(b, a, data_range=1.0, betas=weights, reduction="none")
        for a, b in chunks
    ]
    return torch.cat([value.reshape(-1) for value in values])


def ms_ssim_weights(side: int) -> tuple[float, ...]:
    """The scales' weights for images of a given size, the finest scale first.

    As many of the five published scales as the 11-tap window fits: 1 from 11 pixels on, 2 from
    22, 3 from 44, 4 from 99, 5 from 176. The first M published weights are divided by their sum.

    Args:
        side: The smaller side of the images in pixels.

    Returns:
        M weights, positive, of sum 1.

    Raises:
        ValueError: If `side` is below 11.

    Example:
        >>> [round(weight, 4) for weight in ms_ssim_weights(28)]
        [0.1356, 0.8644]
        >>> len(ms_ssim_weights(64))
        3
    """
    scales = sum(side >= smallest for smallest in _SMALLEST_SIDES)
    if scales == 0:
        raise ValueError(f"MS-SSIM needs an image side of at least 11 pixels, got {side}")
    total = sum(_WEIGHTS[:scales])
    return tuple(weight / total for weight in _WEIGHTS[:scales])


def _spread(values: Tensor) -> Spread:
    values = values.double()
    return {"mean": values.mean().item(), "std": values.std(correction=0).item()}


def _check_pair(x: Tensor, y: Tensor) -> None:
    if x.shape != y.shape:
        raise ValueError(
            f"images and reconstructions need the same shape, got {tuple(x.shape)} "
            f"and {tuple(y.shape)}"
        )
    if x.ndim != 4 or len(x) == 0:
        raise ValueError(f"images must have shape (N, C, H, W) with N > 0, got {tuple(x.shape)}")
    if not (x.is_floating_point() and y.is_floating_point()):
        raise TypeError(f"images must be floating point, got {x.dtype} and {y.dtype}")
