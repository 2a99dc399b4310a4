"""Shrinking as published code did it, where Pillow's filters are others."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt

__all__ = ["blur_bicubic", "unfiltered_bilinear"]

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


def blur_bicubic(pixels: Floats, size: int) -> Bytes:
    """CDNet's published preparation: a Gaussian, then bicubic interpolation, then truncation.

    The Gaussian has the standard deviation √(side / size) / 2, reaches four of them and repeats
    the edge. The interpolation takes the nearest four pixels each way, as scikit-image's resize
    did before it learned to average (0.14); ours repeats the edge where a pixel lies outside.

    Args:
        pixels: Square, from 0 to 255, shape (side, side, K).
        size: Side of the result in pixels.

    Returns:
        uint8 array of shape (size, size, K).
    """
    deviation = np.sqrt(len(pixels) / size) / 2
    blurred = _blur(_blur(pixels, deviation, 0), deviation, 1)
    low, high = blurred.min(), blurred.max()
    small = _interpolate(_interpolate(blurred, size, _catmull_rom, 0), size, _catmull_rom, 1)
    # the small step keeps a value that is whole but for rounding from losing one
    return (small.clip(low, high) + 1e-6).astype(np.uint8)


def unfiltered_bilinear(pixels: Floats, size: int) -> Bytes:
    """OpenCV's bilinear resize: the nearest two pixels each way, rounded to the nearest byte.

    Args:
        pixels: From 0 to 255, shape (H, W, K).
        size: Side of the result in pixels.

    Returns:
        uint8 array of shape (size, size, K).

    Example:
        >>> unfiltered_bilinear(np.arange(16.0).reshape(4, 4, 1), 2)[..., 0].tolist()
        [[3, 5], [11, 13]]
    """
    small = _interpolate(_interpolate(pixels, size, _triangle, 0), size, _triangle, 1)
    return np.floor(small + 0.5).astype(np.uint8)


def _blur(pixels: Floats, deviation: float, axis: int) -> Floats:
    reach = int(4 * deviation + 0.5)
    steps = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (steps / deviation) ** 2)
    weights /= weights.sum()
    indices = np.arange(pixels.shape[axis])
    result = np.zeros_like(pixels)
    for step, weight in zip(steps, weights, strict=True):
        near = (indices + step).clip(0, len(indices) - 1)
        result += weight * pixels.take(near, axis)
    return result


def _interpolate(
    pixels: Floats, size: int, kernel: Callable[[Floats], Floats], axis: int
) -> Floats:
    """Values at the centres of `size` equal parts of the axis, from the nearest four pixels."""
    side = pixels.shape[axis]
    places, weights = _taps(side, size, kernel)
    shape = [1, 1, 1]
    shape[axis] = size
    result = np.zeros([size if a == axis else n for a, n in enumerate(pixels.shape)])
    for place, weight in zip(places, weights, strict=True):
        result += weight.reshape(shape) * pixels.take(place, axis)
    return result


@cache
def _taps(
    side: int, size: int, kernel: Callable[[Floats], Floats]
) -> tuple[npt.NDArray[np.int64], Floats]:
    """For each of four neighbours the pixel and the weight at each place, both (4, size)."""
    where = (np.arange(size) + 0.5) * side / size - 0.5
    first = np.floor(where).astype(np.int64)[None] + np.arange(-1, 3)[:, None]
    return first.clip(0, side - 1), kernel(np.abs(where - first))


def _catmull_rom(distance: Floats) -> Floats:
    """Keys' cubic with a = -1/2: third-order exact, zero beyond two pixels."""
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))


def _triangle(distance: Floats) -> Floats:
    return np.maximum(0.0, 1 - distance)
