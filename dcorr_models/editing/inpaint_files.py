"""Inpainting of image files and of test images, written as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from dcorr_models.data.base import DataSource
from dcorr_models.editing.inpainting import FILL, corrupt, inpaint, mask_from
from dcorr_models.editing.inputs import check_pictures, file_inputs, test_inputs, write_file
from dcorr_models.errors import UserError
from dcorr_models.file_names import file_name
from dcorr_models.methods.base import Method
from dcorr_models.pictures import grid, labelled_grid, png_bytes

__all__ = ["inpaint_files"]

FIRST = 8  # test images that are inpainted if nothing else is said
CELL = 84  # pixels of an image in inpainted.png, about


def inpaint_files(
    method: Method,
    data: DataSource,
    out: Path,
    *,
    mask: str,
    fill: float = FILL,
    images: Sequence[str | Path] = (),
    indices: Sequence[int] | None = None,
    invert: bool = False,
) -> Path:
    """Fills the same hole in image files or test images, and writes the results as PNG files.

    Args:
        method: a trained method with an encoder.
        data: the data it was trained on: image shape, value range, test images.
        out: folder for the results, made if missing: `inpainted.png` with the image, the image with
            its hole and the inpainted one in each row, and a file an inpainted image.
        mask: see `inpainting.mask_from`.
        fill: see `inpainting.inpaint`.
        images: the user's own files; see `read_image_file`.
        indices: test images where `images` is empty; None for the first eight.
        invert: exchange black and white in the files.

    Returns:
        Path of `inpainted.png`.

    Raises:
        UserError: a method without an encoder, a mask that does not fit the images, a broken file,
            an index outside the test split, a folder that cannot be written to.
    """
    check_pictures(data)
    hole = mask_from(mask, *data.image_shape[1:])
    if images:
        inputs, stems = file_inputs(data, images, invert=invert)
    else:
        inputs, stems = test_inputs(data, indices, first=FIRST)
    corrupted = corrupt(method, inputs, hole, fill=fill, value_range=data.value_range)
    inpainted = inpaint(method, inputs, hole, fill=fill, value_range=data.value_range)
    picture = labelled_grid(
        torch.stack([inputs, corrupted, inpainted], dim=1),
        heads=["image", "corrupted", "inpainted"],
        value_range=data.value_range,
        scale=max(1, CELL // data.image_shape[1]),
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
        for number, (stem, image) in enumerate(zip(stems, inpainted, strict=True)):
            single = grid([[image]], value_range=data.value_range)
            write_file(out / f"{number:02d}_{file_name(stem)}_inpainted.png", png_bytes(single))
        write_file(out / "inpainted.png", png_bytes(picture))
    except OSError as error:
        raise UserError(
            f"{out} cannot be written to ({error.strerror}): give --out another folder"
        ) from error
    return out / "inpainted.png"
