from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
from PIL import Image

from dcorr_models.data.celeba_crops import CROPS, Crop, crop_image
from dcorr_models.errors import DataError

# rows and columns of the published recipes, right and bottom excluded
BOXES = {
    "cdnet": (range(40, 188), range(15, 163)),
    "mddae": (range(218), range(178)),
    "icgan": (range(40, 178), range(30, 168)),
    "id_gan": (range(29, 189), range(9, 169)),
    "lord": (range(45, 173), range(25, 153)),
    "stargan": (range(20, 198), range(178)),
}


def noise() -> Image.Image:
    smooth = scipy.ndimage.gaussian_filter(
        np.random.RandomState(0).normal(size=(218, 178, 3)), (2, 2, 0)
    )
    return Image.fromarray((128 + 600 * smooth).clip(0, 255).astype(np.uint8))


def pixels_of(picture: Image.Image, name: str) -> np.ndarray:
    rows, columns = BOXES[name]
    return np.asarray(picture)[rows.start : rows.stop, columns.start : columns.stop]


def catmull_rom(t: float) -> float:
    """Keys 1981, equation 4, with a = -1/2."""
    t = abs(t)
    if t < 1:
        return 1.5 * t**3 - 2.5 * t**2 + 1
    return -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2 if t < 2 else 0.0


def weights(side: int, size: int, kernel) -> np.ndarray:
    """(size, side), by loops over all pixels; what lies outside counts for the edge."""
    table = np.zeros((size, side))
    for i in range(size):
        where = (i + 0.5) * side / size - 0.5
        for pixel in range(-2, side + 2):
            table[i, min(max(pixel, 0), side - 1)] += kernel(where - pixel)
    return table


def test_every_recipe_has_a_box():
    assert set(CROPS) == set(BOXES)


@pytest.mark.parametrize("name", BOXES)
def test_the_box_and_nothing_else_is_seen(name):
    rows, columns = BOXES[name]
    inside = np.zeros((218, 178, 3), np.uint8)
    inside[rows.start : rows.stop, columns.start : columns.stop] = 200
    small = crop_image(Image.fromarray(inside), CROPS[name], 64)
    assert small.shape == (3, 64, 64)
    assert small.dtype == np.uint8
    assert (small == 200).all()
    # a frame of one pixel inside the box is seen at every side
    inside[rows.start + 1 : rows.stop - 1, columns.start + 1 : columns.stop - 1] = 0
    framed = crop_image(Image.fromarray(inside), CROPS[name], 64)
    for side in (framed[:, 0], framed[:, -1], framed[:, :, 0], framed[:, :, -1]):
        assert (side > 20).all()


def test_cdnets_recipe_against_scipy_and_loops():
    picture = noise()
    pixels = pixels_of(picture, "cdnet").astype(float)
    sigma = np.sqrt(148 / 64) / 2
    assert sigma == pytest.approx(0.760, abs=5e-4)
    blurred = scipy.ndimage.gaussian_filter(pixels, (sigma, sigma, 0), mode="nearest", truncate=4)
    table = weights(148, 64, catmull_rom)
    small = np.einsum("ia,abc,jb->cij", table, blurred, table)
    expected = np.floor(small.clip(blurred.min(), blurred.max()) + 1e-6)
    assert np.array_equal(crop_image(picture, CROPS["cdnet"], 64), expected)


def test_lords_recipe_is_the_mean_of_four():
    picture = noise()
    pixels = pixels_of(picture, "lord").astype(int)
    blocks = pixels.reshape(64, 2, 64, 2, 3).sum(axis=(1, 3)).transpose(2, 0, 1)
    assert np.array_equal(crop_image(picture, CROPS["lord"], 64), (blocks + 2) // 4)


@pytest.mark.parametrize("name", ["mddae", "icgan", "id_gan", "stargan"])
def test_pillows_filters(name):
    filters = {
        "mddae": Image.Resampling.BICUBIC,
        "icgan": Image.Resampling.BILINEAR,
        "id_gan": Image.Resampling.LANCZOS,
        "stargan": Image.Resampling.BILINEAR,
    }
    picture = noise()
    cut = Image.fromarray(pixels_of(picture, name))
    expected = np.asarray(cut.resize((64, 64), filters[name])).transpose(2, 0, 1)
    assert np.array_equal(crop_image(picture, CROPS[name], 64), expected)


@pytest.mark.parametrize(
    ("name", "value_range"),
    [("cdnet", (-1.0, 1.0)), ("mddae", (-1.0, 1.0)), ("icgan", (-1.0, 1.0)),
     ("id_gan", (0.0, 1.0)), ("lord", (0.0, 1.0)), ("stargan", (-1.0, 1.0))],
)  # fmt: skip
def test_ranges(name, value_range):
    assert CROPS[name].value_range == value_range


def test_constants_stay_what_they_are():
    for level in (0, 1, 127, 255):
        picture = Image.new("RGB", (178, 218), (level,) * 3)
        for crop in CROPS.values():
            for size in (64, 100):
                assert (crop_image(picture, crop, size) == level).all()


def test_another_size_is_refused():
    with pytest.raises(DataError, match=r"is 178 x 178 pixels, wanted 178 x 218"):
        crop_image(Image.new("RGB", (178, 178)), Crop((0, 0, 178, 178), "bicubic"), 64)
