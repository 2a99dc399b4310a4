"""Traversals: one latent number moves, the others stay; by every network that draws from them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from dcorr_models.data.base import DataSource, LabelledImages, Splits
from dcorr_models.editing.inputs import check_pictures, file_inputs, test_inputs, write_file
from dcorr_models.editing.passes import inference, to_networks_of
from dcorr_models.errors import UserError
from dcorr_models.methods.base import Method
from dcorr_models.methods.latent_variable import LatentVariable
from dcorr_models.pictures import labelled_grid

__all__ = [
    "Spread",
    "base_code",
    "by_spread",
    "drawers",
    "images_to_look_at",
    "same_side",
    "traverse",
    "traverse_file",
]

CELL = 84  # pixels of an image in the GIF, about
FIRST_SHOWN = 10  # dimensions, where none are named
CANDIDATES = 1_000  # images by which dimensions are ordered
MILLISECONDS = 80  # of a frame


class Spread(NamedTuple):
    """Dimensions in the order of how far their means spread over images."""

    order: list[int]
    std: list[float]  # of each dimension, by its number
    images: int  # 0: no encoder, the order is that of the numbers


def drawers(method: LatentVariable) -> dict[str, LatentVariable]:
    """Who draws images from the same numbers, by name: for ID-GAN its VAE, then the generator."""
    vae = getattr(method, "vae", None)
    found = {type(vae).__name__: vae} if isinstance(vae, LatentVariable) else {}
    return {**found, type(method).__name__: method}


def base_code(method: LatentVariable, images: Tensor) -> Tensor:
    """(N, latent_dim) on the CPU: the means of the images' codes; 0 without an encoder."""
    if not method.has_encoder:
        return torch.zeros(len(images), method.latent_dim)
    with inference(method):
        return method.encode(to_networks_of(method, images)).residual.float().cpu()


def images_to_look_at(splits: Splits) -> tuple[LabelledImages, str]:
    """The test split and its name; the training split where all images train."""
    return (splits.test, "test") if len(splits.test) else (splits.train, "training")


def by_spread(method: LatentVariable, images: Tensor) -> Spread:
    """Dimensions by the standard deviation of their means over images, the widest first.

    A dimension that has collapsed to the prior has the same mean for all images, and comes last.
    """
    if not method.has_encoder:
        return Spread(list(range(method.latent_dim)), [], 0)
    codes = torch.cat([base_code(method, part) for part in torch.split(images, 250)])
    std = codes.std(dim=0, correction=0)
    return Spread(std.argsort(descending=True, stable=True).tolist(), std.tolist(), len(codes))


def traverse(
    method: LatentVariable, base: Tensor, dimensions: Sequence[int], values: Tensor
) -> Tensor:
    """Images of a code, one of whose numbers takes each value in turn.

    Where a generator has nuisance numbers, they are those of `decode`, the same for all images.

    Args:
        method: draws the images; see `drawers`.
        base: (latent_dim,), the code that is left but for one number.
        dimensions: R of them, a row each.
        values: (T,), a column each.

    Returns:
        (R, T, C, H, W) on the CPU.
    """
    device = next(method.parameters()).device
    codes = base.repeat(len(dimensions), len(values), 1)
    for row, dimension in enumerate(dimensions):
        codes[row, :, dimension] = values
    parts = []
    with inference(method):
        for part in torch.split(codes.flatten(0, 1).to(device), 100):
            parts.append(method.generate(part, method.fixed_nuisance(part)).cpu())
    images = torch.cat(parts)
    return images.reshape(len(dimensions), len(values), *images.shape[1:])


def traverse_file(
    method: Method,
    data: DataSource,
    out: Path,
    *,
    dimensions: Sequence[int] | None = None,
    image: str | Path | None = None,
    index: int = 0,
    reach: float = 2.0,
    frames: int = 24,
    invert: bool = False,
) -> Path:
    """Writes a GIF in which every shown number goes from one end to the other and back.

    A column is one number, all others at the image's own; a row is one network that draws: the VAE,
    and the generator that learned its numbers.

    Args:
        method: a trained method of latent numbers.
        data: the data it was trained on: image shape, value range, test images.
        out: the GIF; its folder is made if missing.
        dimensions: numbers that move, from 0 on; by default the ten that spread most over test
            images, or over training images where none test.
        image: a file of the user's own, whose code the others stay at; see `read_image_file`.
        index: of the test image in its place; of the training image where none test.
        reach: they go from minus this to this, in standard deviations of the prior.
        frames: from one end to the other, 2 or more.
        invert: exchange black and white in the file.

    Returns:
        `out`.

    Raises:
        UserError: a method without such numbers, a dimension that it does not have or one twice, a
            file that exists or is no GIF, or a number that is too small.
    """
    if not isinstance(method, LatentVariable):
        raise UserError(
            f"{type(method).__name__} has no independent latent numbers to go along: edit its "
            "images with `dcorr-models edit`"
        )
    if out.suffix.lower() != ".gif":
        raise UserError(f"a traversal is written as a GIF, got {out.name}: end its name in .gif")
    if out.exists():
        raise UserError(f"{out} exists: give --out a new name")
    if frames < 2 or not 0 < reach < float("inf"):
        raise UserError(f"frames must be 2 or more and range above 0, got {frames} and {reach}")
    if image is not None and not method.has_encoder:
        raise UserError(f"{type(method).__name__} has no encoder: leave the image file out")
    if image is None:
        images = _own_image(data, index)
    else:
        images = file_inputs(data, [image], invert=invert).images
    shown = _dimensions(method, data, dimensions)
    values = torch.linspace(-reach, reach, frames)
    base = base_code(method, images)[0]
    rows = {name: traverse(drawer, base, shown, values) for name, drawer in drawers(method).items()}
    heads = [str(dimension) for dimension in shown]
    pictures = [
        _frame([moved[:, t] for moved in rows.values()], list(rows), heads, data.value_range)
        for t in range(frames)
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    write_file(out, _gif_bytes([*pictures, *pictures[-2:0:-1]]))
    return out


def _own_image(data: DataSource, index: int) -> Tensor:
    split, name = images_to_look_at(data.splits())
    if name == "test":
        return test_inputs(data, [index], first=1).images
    check_pictures(data)
    if not 0 <= index < len(split):
        raise UserError(f"index {index} is outside the {len(split)} training images")
    return split.__getitems__([index])["image"]


def _dimensions(
    method: LatentVariable, data: DataSource, dimensions: Sequence[int] | None
) -> list[int]:
    if dimensions is None:
        images, _ = images_to_look_at(data.splits())[0].tensors(CANDIDATES)
        return by_spread(method, images).order[:FIRST_SHOWN]
    if not dimensions or len(set(dimensions)) < len(dimensions):
        raise UserError(f"name each dimension once, and at least one, got {list(dimensions)}")
    outside = [d for d in dimensions if not 0 <= d < method.latent_dim]
    if outside:
        raise UserError(
            f"dimension {outside[0]} is outside the {method.latent_dim} of this "
            f"{type(method).__name__}, which are numbered from 0"
        )
    return list(dimensions)


def _frame(
    rows: list[Tensor], names: list[str], heads: list[str], value_range: tuple[float, float]
) -> Image.Image:
    side = max(row.shape[-1] for row in rows)
    # a VAE's images may be smaller than its generator's
    large = torch.stack([same_side(row, side) for row in rows])
    scale = max(1, CELL // large.shape[-2])
    return labelled_grid(
        large, heads=heads, names=names, value_range=value_range, scale=scale, padding=2
    )


def same_side(images: Tensor, side: int) -> Tensor:
    """(N, C, H, W) at that side, a multiple of their own, each pixel a square."""
    times = side // images.shape[-1]
    if times < 2:
        return images
    return images.repeat_interleave(times, dim=-2).repeat_interleave(times, dim=-1)


def _gif_bytes(frames: Sequence[Image.Image]) -> bytes:
    buffer = io.BytesIO()
    first, *others = frames
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=MILLISECONDS, loop=0)
    return buffer.getvalue()
