"""Inpainting: what a mask hides is taken from the reconstruction of the image with a hole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from dcorr_models.data.splitting import check_seed
from dcorr_models.editing.passes import check_images, reconstruct
from dcorr_models.errors import UserError
from dcorr_models.methods.base import Method
from dcorr_models.pictures import read_grey_levels

__all__ = [
    "bottom_half",
    "box",
    "corrupt",
    "inpaint",
    "mask_from",
    "random_square",
    "read_mask",
    "right_half",
]

FILL = 0.5
"""What stands in the hole while the image is encoded: mid-grey, between 0, black, and 1, white."""


def inpaint(
    method: Method,
    images: Tensor,
    mask: Tensor,
    *,
    fill: float = FILL,
    value_range: tuple[float, float] | None = None,
) -> Tensor:
    r"""Images with their hole filled from both codes of what is left of them.

    With M = 1 in the hole, the corrupted image is encoded and decoded to x', and

    .. math:: x_{inp} = M \odot x' + (1 - M) \odot x

    The paper does not say what stands in the hole meanwhile; its published code multiplies images
    in [-1, 1] by 0, which is the default here: the middle of the value range.

    Args:
        method: a trained method with an encoder. It works in eval mode without gradients; its
            training flags stay as they were.
        images: (N, C, H, W) of the method's image shape, in its value range.
        mask: bool (H, W), True in the hole; one for all images.
        fill: what stands in the hole, from 0, the lowest value of an image, to 1, the highest.
        value_range: of the images; by default the method's, where it is known.

    Returns:
        (N, C, H, W) on the images' device; outside the hole they are the images.

    Raises:
        UserError: a method without an encoder; images of another shape; a mask of another size, of
            other numbers than bool, or without a hole; a fill outside its range.

    Reference:
        Zheng and Sun 2019 (Lr-LiVAE), section 4.5.

    Example:
        >>> right_half(2, 4).int().tolist()
        [[0, 0, 1, 1], [0, 0, 1, 1]]
    """
    corrupted = corrupt(method, images, mask, fill=fill, value_range=value_range)
    return torch.where(mask.to(images.device), reconstruct(method, corrupted), images)


def corrupt(
    method: Method,
    images: Tensor,
    mask: Tensor,
    *,
    fill: float = FILL,
    value_range: tuple[float, float] | None = None,
) -> Tensor:
    """The images with their hole, as `inpaint` encodes them; its arguments and errors."""
    if not method.has_encoder:
        raise UserError(
            f"this {type(method).__name__} has no encoder: it cannot read what is left of an image;"
            " take a method that has one"
        )
    check_images(method, images)
    _check_mask(mask, (images.shape[-2], images.shape[-1]))
    value_range = value_range or method.value_range
    if value_range is None:
        raise UserError(
            f"this {type(method).__name__} does not say which values its images have: give "
            "value_range, that of the data"
        )
    if not 0 <= fill <= 1:
        raise UserError(f"fill must be from 0, black, to 1, white, got {fill}")
    low, high = value_range
    return images.masked_fill(mask.to(images.device), low + fill * (high - low))


def right_half(height: int, width: int) -> Tensor:
    """The mask of the right half; of an odd width the middle column stays.

    Args:
        height: of the images.
        width: of the images.

    Returns:
        bool (H, W), True in the hole.
    """
    return box(height, width, 0, width - width // 2, height, width // 2)


def bottom_half(height: int, width: int) -> Tensor:
    """The mask of the bottom half; of an odd height the middle row stays.

    Args:
        height: of the images.
        width: of the images.

    Returns:
        bool (H, W), True in the hole.
    """
    return box(height, width, height - height // 2, 0, height // 2, width)


def box(height: int, width: int, top: int, left: int, rows: int, columns: int) -> Tensor:
    """The mask of a rectangle.

    Args:
        height: of the images.
        width: of the images.
        top: first row of the hole, from 0.
        left: its first column, from 0.
        rows: its height, 1 or more.
        columns: its width, 1 or more.

    Returns:
        bool (H, W), True in the hole.

    Raises:
        UserError: a rectangle that is empty or does not lie within the images.

    Example:
        >>> box(3, 4, 1, 2, 2, 1).int().tolist()
        [[0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0]]
    """
    fits = 0 <= top < top + rows <= height and 0 <= left < left + columns <= width
    if not fits:
        raise UserError(
            f"a box of {rows} x {columns} pixels from row {top} and column {left} does not lie "
            f"within images of {height} x {width}"
        )
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[top : top + rows, left : left + columns] = True
    return mask


def random_square(height: int, width: int, side: int = 20, *, seed: int = 0) -> Tensor:
    """The mask of a square somewhere within the images, any place as likely as any other.

    Lr-LiVAE's published code hides one such square of 20 x 20 pixels in all images of a batch, of
    64 x 64; of the paper's masks none is random.

    Args:
        height: of the images.
        width: of the images.
        side: of the square, 1 or more.
        seed: of its place, from 0 to 2**32 - 1.

    Returns:
        bool (H, W), True in the hole.

    Raises:
        UserError: a square that does not fit into the images, or a seed outside its range.

    Example:
        >>> mask = random_square(64, 64, seed=3)
        >>> mask.sum().item(), torch.equal(mask, random_square(64, 64, seed=3))
        (400, True)
    """
    check_seed(seed)
    if not 1 <= side <= min(height, width):
        raise UserError(
            f"a square of {side} x {side} pixels does not fit into images of {height} x {width}: "
            "give another side"
        )
    generator = torch.Generator().manual_seed(seed)
    top, left = (
        int(torch.randint(size - side + 1, (), generator=generator)) for size in (height, width)
    )
    return box(height, width, top, left, side, side)


def read_mask(path: str | Path, height: int, width: int) -> Tensor:
    """A mask from an image file, white where the hole is.

    Args:
        path: a file that Pillow can read; grey levels from 128 on are the hole.
        height: of the images.
        width: of the images.

    Returns:
        bool (H, W), True in the hole.

    Raises:
        UserError: no such file, no image, one of another size, or without a hole.
    """
    mask = read_grey_levels(path) >= 128
    _check_mask(mask, (height, width), name=f"the mask {path}")
    return mask


NAMED: dict[str, Callable[[int, int], Tensor]] = {
    "right_half": right_half,
    "bottom_half": bottom_half,
}


def mask_from(words: str, height: int, width: int) -> Tensor:
    """A mask as the command line names it.

    Args:
        words: `right_half`, `bottom_half`, `box:TOP,LEFT,HEIGHT,WIDTH` in pixels,
            `random_square:SIDE,SEED` (20 and 0 where they are left out), or an image file.
        height: of the images.
        width: of the images.

    Returns:
        bool (H, W), True in the hole.

    Raises:
        UserError: words that are none of these, or a mask that does not fit the images.

    Example:
        >>> mask_from("box:0,0,1,2", 1, 3).int().tolist()
        [[1, 1, 0]]
    """
    if words in NAMED:
        return NAMED[words](height, width)
    if words.startswith("box:"):
        numbers = _whole_numbers(words, "a box is box:TOP,LEFT,HEIGHT,WIDTH", (4,))
        return box(height, width, *numbers)
    if words.partition(":")[0] == "random_square":
        numbers = _whole_numbers(words, "a random square is random_square:SIDE,SEED", (0, 1, 2))
        side, seed = (*numbers, *(20, 0)[len(numbers) :])
        return random_square(height, width, side, seed=seed)
    if not Path(words).exists():
        raise UserError(
            f"no mask {words!r}: give {', '.join(NAMED)}, box:TOP,LEFT,HEIGHT,WIDTH, "
            "random_square:SIDE,SEED, or an image file that exists"
        )
    return read_mask(words, height, width)


def _whole_numbers(words: str, form: str, counts: tuple[int, ...]) -> list[int]:
    """The numbers after the colon, as many as one of `counts`."""
    rest = words.partition(":")[2]
    try:
        numbers = [int(number) for number in rest.split(",")] if rest else []
    except ValueError as error:
        raise UserError(f"{form} in whole pixels, got {words!r}") from error
    if len(numbers) not in counts:
        raise UserError(f"{form} in whole pixels, got {words!r}")
    return numbers


def _check_mask(mask: Tensor, size: tuple[int, int], *, name: str = "mask") -> None:
    if not isinstance(mask, Tensor):
        raise UserError(f"{name} must be a torch tensor of bool, got {type(mask).__name__}")
    if tuple(mask.shape) != size:
        found = " x ".join(map(str, mask.shape))
        raise UserError(
            f"{name} is of {found} pixels and the images are of {size[0]} x {size[1]} (height x "
            "width): make it of their size"
        )
    if mask.dtype != torch.bool:
        raise UserError(f"{name} must be of bool, True in the hole, got {mask.dtype}")
    if not bool(mask.any()):
        raise UserError(f"{name} has no hole: nothing in it is white (True)")
