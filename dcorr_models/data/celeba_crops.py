"""How each paper cuts and shrinks CelebA's aligned images of 178 x 218 pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dcorr_models.data.interpolation import Floats, blur_bicubic, unfiltered_bilinear
from dcorr_models.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["CROPS", "Crop", "crop_image"]

Bytes = npt.NDArray[np.uint8]

WIDTH, HEIGHT = 178, 218


@dataclass(frozen=True)
class Crop:
    """A way from an aligned image to a small square one.

    Args:
        box: Left, top, right and bottom; right and bottom are the first pixel outside.
        filter: "bicubic", "bilinear" or "lanczos" are Pillow's, which average over all pixels that
            fall together; "blur_bicubic" and "unfiltered_bilinear" are those of `interpolation`.
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


_OWN_FILTERS: dict[str, Callable[[Floats, int], Bytes]] = {
    "blur_bicubic": blur_bicubic,
    "unfiltered_bilinear": unfiltered_bilinear,
}
