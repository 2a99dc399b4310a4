"""Class and content of image files and of test images put together, written as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor

from dcorr_models.data.base import DataSource
from dcorr_models.editing.inputs import Inputs, file_inputs, test_inputs, write_file
from dcorr_models.editing.swap import check_class_content, example_rows, swap
from dcorr_models.errors import UserError
from dcorr_models.file_names import distinct_file_names
from dcorr_models.methods.base import Method
from dcorr_models.pictures import grid, labelled_grid, png_bytes

__all__ = ["swap_files", "swap_rows"]

EXAMPLES = 5  # images of LORD's Figs. 2 and 3
CELL = 84  # pixels of an image in edited.png, about


def swap_files(
    method: Method,
    data: DataSource,
    out: Path,
    *,
    class_of: Sequence[str | Path] = (),
    content_of: Sequence[str | Path] = (),
    images: Sequence[str | Path] = (),
    indices: Sequence[int] | None = None,
    invert: bool = False,
) -> Path:
    """Puts the class of each image and the content of each other together.

    Args:
        method: a trained method of class and content codes.
        data: the data it was trained on.
        out: folder for the results, made if missing: `edited.png` with the class images in the
            first column, the content images in the first row and the pairs between them, and a
            file a pair.
        class_of: the user's files that give their class; by default the test images.
        content_of: the user's files that give their content; by default the test images.
        images: files that give both.
        indices: test images; five of different classes by default.
        invert: exchange black and white in the files.

    Returns:
        Path of `edited.png`.

    Raises:
        UserError: a method of another kind, `images` beside `class_of` or `content_of`, a broken
            file, an index outside the test split, a folder that cannot be written to.
    """
    check_class_content(method)
    classes, contents = _inputs(data, class_of, content_of, images, indices, invert=invert)
    made = swap(method, classes.images, contents.images)
    names = distinct_file_names(
        [f"class_of_{one}_content_of_{other}" for one in classes.stems for other in contents.stems]
    )
    whole = _picture(classes, contents, made, data.value_range)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, image in zip(names, made.flatten(0, 1), strict=True):
            single = grid([[image]], value_range=data.value_range)
            write_file(out / f"{name}.png", png_bytes(single))
        write_file(out / "edited.png", png_bytes(whole))
    except OSError as error:
        raise UserError(
            f"{out} cannot be written to ({error.strerror}): give --out another folder"
        ) from error
    return out / "edited.png"


def swap_rows(
    class_images: Tensor, content_images: Tensor, swapped: Tensor
) -> list[list[Tensor | None]]:
    """Rows of a grid: the content images above, the class images on the left, pairs between.

    Args:
        class_images: (N, C, H, W).
        content_images: (M, C, H, W).
        swapped: (N, M, C, H, W).

    Returns:
        N + 1 rows of M + 1 images; the first cell is empty.
    """
    pairs = zip(class_images, swapped, strict=True)
    return [[None, *content_images], *([image, *row] for image, row in pairs)]


def _picture(
    classes: Inputs, contents: Inputs, made: Tensor, value_range: tuple[float, float]
) -> Image.Image:
    return labelled_grid(
        swap_rows(classes.images, contents.images, made),
        heads=["class", *contents.stems],
        names=["content", *classes.stems],
        value_range=value_range,
        scale=max(1, CELL // made.shape[-2]),
        gap_after=1,
        gap_below=1,
    )


def _inputs(
    data: DataSource,
    class_of: Sequence[str | Path],
    content_of: Sequence[str | Path],
    images: Sequence[str | Path],
    indices: Sequence[int] | None,
    *,
    invert: bool,
) -> tuple[Inputs, Inputs]:
    """Which images give their class, and which their content."""
    if images and (class_of or content_of):
        raise UserError(
            "--images give both class and content: give --class_of and --content_of alone, or "
            "--images alone"
        )
    if class_of and content_of and indices is not None:
        raise UserError("--indices name test images, and --class_of and --content_of are enough")
    both = None
    if images:
        both = file_inputs(data, images, invert=invert)
    elif not class_of or not content_of:
        if indices is None:
            test = data.splits().test
            indices = example_rows(test, EXAMPLES) if len(test) else None
        both = test_inputs(data, indices, first=EXAMPLES)
    classes = file_inputs(data, class_of, invert=invert) if class_of else both
    contents = file_inputs(data, content_of, invert=invert) if content_of else both
    assert classes is not None
    assert contents is not None
    return classes, contents
