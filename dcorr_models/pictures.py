"""Images in and out: tensors to grids and PNG, the user's image files to tensors."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError
from torch import Tensor

from dcorr_models.errors import UserError

__all__ = [
    "Rows",
    "data_uri",
    "grid",
    "is_point",
    "labelled_grid",
    "load_picture",
    "png_bytes",
    "read_grey_levels",
    "read_image_file",
    "to_bytes",
]

Bytes = npt.NDArray[np.uint8]
FONT, LINE = 11, 14  # size of the words beside a grid, and height of a line, in pixels
NAME_WIDTH = 160  # of the words before a row

Rows = Tensor | Sequence[Tensor] | Sequence[Sequence[Tensor | None]]


def is_point(shape: Sequence[int]) -> bool:
    """Whether an image is a single place, its channels the coordinates: nothing to look at.

    Args:
        shape: of images, (..., C, H, W).

    Example:
        >>> is_point((9, 2, 1, 1)), is_point((3, 8, 8))
        (True, False)
    """
    return tuple(shape[-2:]) == (1, 1)


def to_bytes(images: Tensor, *, value_range: tuple[float, float] = (0.0, 1.0)) -> Bytes:
    """Float images as bytes, `round((value - low) / (high - low) * 255)`, cut to 0..255.

    Args:
        images: (..., C, H, W) with 1 or 3 channels.
        value_range: what becomes 0 and 255; NaN becomes 0.

    Returns:
        uint8 array (..., H, W, C).

    Raises:
        ValueError: fewer than three dimensions, another number of channels, an empty range.

    Example:
        >>> to_bytes(torch.tensor([[[-1.0, 0.0, 1.0]]]), value_range=(-1.0, 1.0)).ravel().tolist()
        [0, 128, 255]
    """
    if images.ndim < 3 or images.shape[-3] not in (1, 3):
        raise ValueError(
            f"images must be (..., C, H, W) with 1 or 3 channels, got {tuple(images.shape)}"
        )
    low, high = value_range
    if not low < high:
        raise ValueError(f"value_range needs low < high, got {value_range}")
    scaled = (images.detach().to("cpu", torch.float32) - low) / (high - low) * 255.0
    whole = scaled.nan_to_num(0.0, 255.0, 0.0).clamp(0.0, 255.0).round().to(torch.uint8)
    result: Bytes = whole.movedim(-3, -1).numpy()
    return result


def grid(
    rows: Rows,
    *,
    value_range: tuple[float, float] = (0.0, 1.0),
    padding: int = 2,
    scale: int = 1,
    background: int | None = 255,
    gap_after: int = 0,
    gap_below: int = 0,
) -> Image.Image:
    """Images in rows and columns, each pixel drawn as a square of `scale` pixels.

    Args:
        rows: (R, columns, C, H, W), or a sequence of rows, each (columns, C, H, W) or a sequence
            of (C, H, W). All images have one size; rows may differ in length and are then filled
            up with background, which is also what None stands for.
        value_range: see `to_bytes`.
        padding: pixels between images, after scaling.
        scale: how often a pixel is repeated each way (nearest neighbour): 28-pixel digits need 3
            or more to be looked at.
        background: grey level of what lies between the images; None leaves it transparent.
        gap_after: a wider gap comes after this many columns; 0 for none.
        gap_below: a wider gap comes below this many rows; 0 for none.

    Returns:
        A picture of mode RGB, or RGBA with a transparent background.

    Raises:
        ValueError: no images, images of different sizes, a negative padding, a scale under 1.

    Example:
        >>> grid(torch.rand(2, 3, 1, 28, 28), padding=1).size  # (3 · 28 + 2, 2 · 28 + 1)
        (86, 57)
    """
    if padding < 0 or scale < 1 or gap_after < 0 or gap_below < 0:
        raise ValueError(
            "padding, gap_after and gap_below must be 0 or more and scale 1 or more, "
            f"got {padding}, {gap_after}, {gap_below} and {scale}"
        )
    cells = [
        [None if image is None else to_bytes(image, value_range=value_range) for image in row]
        for row in rows
    ]
    shapes = {cell.shape for row in cells for cell in row if cell is not None}
    if len(shapes) != 1:
        raise ValueError(
            f"rows must hold images of one size, got {sorted(shapes) if shapes else 'no images'}"
        )
    height, width, _ = shapes.pop()
    columns = max(len(row) for row in cells)
    lefts = _places(columns, width * scale, padding, gap_after)
    tops = _places(len(cells), height * scale, padding, gap_below)
    size = (tops[-1] + height * scale, lefts[-1] + width * scale)
    canvas = np.full((*size, 4), 0 if background is None else background, dtype=np.uint8)
    if background is not None:
        canvas[..., 3] = 255
    for top, row in zip(tops, cells, strict=True):
        for left, cell in zip(lefts, row, strict=False):
            if cell is None:
                continue
            large = cell.repeat(scale, axis=0).repeat(scale, axis=1)
            there = (slice(top, top + len(large)), slice(left, left + width * scale))
            canvas[(*there, slice(0, 3))] = large
            canvas[(*there, 3)] = 255
    picture = Image.fromarray(canvas)
    return picture if background is None else picture.convert("RGB")


def labelled_grid(
    rows: Rows,
    *,
    heads: Sequence[str] = (),
    names: Sequence[str] = (),
    value_range: tuple[float, float] = (0.0, 1.0),
    padding: int = 4,
    scale: int = 1,
    gap_after: int = 0,
    gap_below: int = 0,
) -> Image.Image:
    """`grid` on white, with words above its columns and before its rows.

    Args:
        rows: see `grid`.
        heads: above the columns, from the first one on; broken into lines to fit, and cut where
            they still do not.
        names: before the rows, from the first one on, in lines as well.
        value_range: see `to_bytes`.
        padding: see `grid`.
        scale: see `grid`.
        gap_after: see `grid`.
        gap_below: see `grid`.

    Returns:
        A picture of mode RGB.

    Raises:
        ValueError: see `grid`.
    """
    picture = grid(
        rows,
        value_range=value_range,
        padding=padding,
        scale=scale,
        gap_after=gap_after,
        gap_below=gap_below,
    )
    first = next(image for row in rows for image in row if image is not None)
    height, width = (int(side) * scale for side in first.shape[-2:])
    columns = max(len(row) for row in rows)
    font = ImageFont.load_default(FONT)
    captions = [_lines(head, width, font) for head in heads[:columns]]
    top = max((len(lines) for lines in captions), default=0) * LINE + (padding if heads else 0)
    labels = [_lines(name, NAME_WIDTH, font) for name in names[: len(rows)]]
    widest = max((font.getlength(line) for lines in labels for line in lines), default=0)
    left = round(widest) + 3 * padding if labels else 0
    canvas = Image.new("RGB", (left + picture.width, top + picture.height), "white")
    canvas.paste(picture, (left, top))
    draw = ImageDraw.Draw(canvas)
    lefts = _places(columns, width, padding, gap_after)
    for lines, x in zip(captions, lefts, strict=False):
        for number, line in enumerate(lines):
            # The last line stands on the images, whatever the number of lines.
            y = top - padding - (len(lines) - number) * LINE
            draw.text((left + x + width / 2, y), line, fill="black", font=font, anchor="ma")
    tops = _places(len(rows), height, padding, gap_below)
    for y, lines in zip(tops, labels, strict=False):
        middle = top + y + height / 2
        for place, line in enumerate(lines):
            level = middle + (place - (len(lines) - 1) / 2) * LINE
            draw.text((left - 2 * padding, level), line, fill="black", font=font, anchor="rm")
    return canvas


def _places(count: int, size: int, padding: int, gap_after: int) -> list[int]:
    """Where each column, or each row, begins."""
    return [i * (size + padding) + (3 * padding if 0 < gap_after <= i else 0) for i in range(count)]


def _lines(words: str, width: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> list[str]:
    """The words in as few lines of that width as they fit; what is too long is cut."""
    lines: list[str] = []
    for word in words.replace("_", " ").split():
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(joined) <= width:
            lines[-1] = joined
            continue
        while len(word) > 1 and font.getlength(word) > width:
            word = word.removesuffix("…")[:-1] + "…"
        lines.append(word)
    return lines


def png_bytes(picture: Image.Image) -> bytes:
    """The picture as a PNG file; a picture without colour is stored in grey."""
    if picture.mode == "RGB":
        colours = np.asarray(picture)
        if (colours == colours[..., :1]).all():
            picture = picture.convert("L")
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def data_uri(picture: Image.Image) -> str:
    """The picture as a `data:` address, for pages that need no other file."""
    return "data:image/png;base64," + base64.b64encode(png_bytes(picture)).decode("ascii")


def read_image_file(
    path: str | Path,
    image_shape: tuple[int, int, int],
    value_range: tuple[float, float] = (0.0, 1.0),
    *,
    invert: bool = False,
) -> Tensor:
    """The user's own image, of any size, in the form that a method was trained on.

    The image is turned as its EXIF data says, laid on white where it is transparent, cut at the
    centre to the aspect ratio of `image_shape`, and resized with a filter that averages when it
    shrinks (bicubic, antialiased).

    Args:
        path: a file that Pillow can read, grey or coloured, 8 or 16 bits.
        image_shape: channels (1 for grey, 3 for RGB), height and width of the result.
        value_range: values of black and white in the result.
        invert: exchange black and white: MNIST is white on black, paper is not.

    Returns:
        float32 (C, H, W) within `value_range`.

    Raises:
        UserError: no such file, not an image, a broken one, or a number of channels other than
            1 and 3.
    """
    channels, height, width = image_shape
    if channels not in (1, 3):
        raise UserError(f"image files can be read as 1 or 3 channels, not as {channels}: {path}")
    picture = _eight_bits(_open(Path(path)), Path(path))
    try:
        picture = picture.convert("L" if channels == 1 else "RGB")
    except ValueError as error:  # L*a*b*, as Photoshop saves it
        raise UserError(f"{path} cannot be read: {error}; save it as RGB or grey") from error
    if invert:
        picture = ImageOps.invert(picture)
    shrink = min(picture.width / width, picture.height / height)
    left, top = (picture.width - shrink * width) / 2, (picture.height - shrink * height) / 2
    # Rounding may put a side a hair outside the picture, which Pillow refuses.
    box = (
        max(left, 0.0),
        max(top, 0.0),
        min(left + shrink * width, picture.width),
        min(top + shrink * height, picture.height),
    )
    small = picture.resize((width, height), Image.Resampling.BICUBIC, box=box)
    values = torch.from_numpy(np.array(small, dtype=np.float32)).reshape(height, width, channels)
    low, high = value_range
    return (values.movedim(-1, 0) / 255.0 * (high - low) + low).contiguous()


def read_grey_levels(path: str | Path) -> Tensor:
    """The grey levels of an image file in its own size, such as those of a mask.

    Args:
        path: a file that Pillow can read; what is transparent in it is white.

    Returns:
        uint8 (H, W), from 0, black, to 255, white.

    Raises:
        UserError: no such file, not an image, or a broken one.
    """
    picture = _eight_bits(_open(Path(path)), Path(path)).convert("L")
    return torch.from_numpy(np.array(picture))


def _open(path: Path) -> Image.Image:
    if not path.exists():
        raise UserError(f"no image at {path}: there is no such file")
    if path.is_dir():
        raise UserError(f"{path} is a folder: name the image files in it")
    try:
        return load_picture(path)
    except UserError as error:
        raise UserError(f"{path} {error}") from error


def load_picture(source: Path | BinaryIO) -> Image.Image:
    """A picture whose pixels are loaded, which Pillow itself does late, upright as its EXIF says.

    Args:
        source: a file, or a stream of its content.

    Raises:
        UserError: not an image, or a broken one; the message goes on after the file's name.
    """
    try:
        # Pillow warns from 90 megapixels on, which scans and panoramas have; it refuses twice that
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = Image.open(source)
        with opened:
            picture = ImageOps.exif_transpose(opened)
            picture.load()
    except UnidentifiedImageError as error:
        raise UserError("is not an image in a known format") from error
    except Image.DecompressionBombError as error:
        raise UserError("is too large an image: make it smaller first") from error
    # Pillow's readers let any mistake of their own through when a file is broken: flipped bytes
    # gave RuntimeError in AVIF, NotImplementedError in DDS and MemoryError in JPEG 2000.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"cannot be read as an image: {reason}") from error
    return picture


def _eight_bits(picture: Image.Image, path: Path) -> Image.Image:
    """Eight bits a channel, and white where the picture is transparent."""
    if picture.mode.startswith("I"):  # 16 bits: Pillow's own conversion would cut at 255
        values = np.asarray(picture).astype(np.int64)
        return Image.fromarray((values.clip(0, 65535) // 257).astype(np.uint8))
    if picture.mode == "F":
        raise UserError(f"{path} holds floating-point numbers: save it with 8 or 16 bits")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer)
    return picture
