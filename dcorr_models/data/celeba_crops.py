"""How each paper cuts and shrinks CelebA's aligned images of 178 x 218 pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dcorr_models.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["CROPS", "Crop", "crop_image"]

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

WIDTH, HEIGHT = 178, 218


@dataclass(frozen=True)
class Crop:
    """A way from an aligned image to a small square one.

    Args:
        box: Left, top, right and bottom; right and bottom are the first pixel outside.
        filter: "bicubic", "bilinear" or "lanczos" are Pillow's, which average over all pixels that
            fall together; "blur_bicubic" and "unfiltered_bilinear" are the functions below.
        value_range: Of the float images, as the paper has them.
    """

    box: tuple[int, int, int, int]
    filter: str
    value_range: tuple[float, float] = (-1.0, 1.0)


CROPS = {
    "cdnet": Crop((15, 40, 163, 188), "blur_bicubic"),
    "mddae": Crop((0, 0, 178, 218), "bicubic"),
    "icgan": Crop((30, 40, 168, 178), "bilinear"),
    "id_gan": Crop((9, 29, 169, 189), "lanczos", (0.0, 1.0)),
    "lord": Crop((25, 45, 153, 173), "unfiltered_bilinear", (0.0, 1.0)),
    "stargan": Crop((0, 20, 178, 198), "bilinear"),
}


def crop_image(picture: Image.Image, crop: Crop, size: int) -> Bytes:
    """Cut and shrink an aligned image.

    Args:
        picture: RGB, 178 wide and 218 high.
        crop: One of `CROPS`.
        size: Side of the result in pixels.

    Returns:
        uint8 array of shape (3, size, size).

    Raises:
        DataError: If the picture has another size.
    """
    if picture.size != (WIDTH, HEIGHT):
        raise DataError(
            f"is {picture.width} x {picture.height} pixels, wanted {WIDTH} x {HEIGHT}: take the "
            "aligned and cropped images"
        )
    # cut first: Pillow's `box` would let pixels outside of it into the filter
    cut = picture.crop(crop.box)
    if crop.filter in _OWN_FILTERS:
        small = _OWN_FILTERS[crop.filter](np.asarray(cut, dtype=np.float64), size)
    else:
        from PIL import Image

        small = np.asarray(cut.resize((size, size), Image.Resampling[crop.filter.upper()]))
    return small.transpose(2, 0, 1)


def _blur_bicubic(pixels: Floats, size: int) -> Bytes:
    """CDNet's published preparation: a Gaussian, then bicubic interpolation, then truncation.

    The Gaussian has the standard deviation √(side / size) / 2, reaches four of them and repeats
    the edge. The interpolation takes the nearest four pixels each way, as scikit-image's resize
    did before it learned to average (0.14); ours repeats the edge where a pixel lies outside.
    """
    deviation = np.sqrt(len(pixels) / size) / 2
    blurred = _blur(_blur(pixels, deviation, 0), deviation, 1)
    low, high = blurred.min(), blurred.max()
    small = _interpolate(_interpolate(blurred, size, _catmull_rom, 0), size, _catmull_rom, 1)
    # the small step keeps a value that is whole but for rounding from losing one
    return (small.clip(low, high) + 1e-6).astype(np.uint8)


def _unfiltered_bilinear(pixels: Floats, size: int) -> Bytes:
    """OpenCV's bilinear resize: the nearest two pixels each way, rounded to the nearest byte."""
    small = _interpolate(_interpolate(pixels, size, _triangle, 0), size, _triangle, 1)
    return np.floor(small + 0.5).astype(np.uint8)


_OWN_FILTERS: dict[str, Callable[[Floats, int], Bytes]] = {
    "blur_bicubic": _blur_bicubic,
    "unfiltered_bilinear": _unfiltered_bilinear,
}


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
