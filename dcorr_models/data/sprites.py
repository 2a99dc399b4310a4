"""Coloured sprites whose class and content are known exactly, drawn when they are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from dcorr_models.data.base import DataSource, LabelledImages, Splits
from dcorr_models.data.class_splits import (
    check_shares,
    class_splits,
    held_out_classes,
    require_two_images,
)
from dcorr_models.data.splitting import stratified_order
from dcorr_models.data.sprite_rendering import COLOURS, SHAPES, draw_sprites
from dcorr_models.errors import DataError

__all__ = ["Sprites"]

SMALLEST_SCALE = 0.5


class Sprites(DataSource):
    """dSprites' grid in colour: the class is shape and colour, the content all that varies else.

    Squares, ellipses and hearts on black ground, in [0, 1], each class with every content of the
    grid: scale, orientation, and position in two directions. The content's number is
    `((scale · orientations + orientation) · positions + x) · positions + y`, in dSprites' order of
    factors, and `targets` holds the factors' values in that order: scale from 1/2 to 1,
    orientation in radians, x and y from 0 to 1. A class and a content fix the image. The image
    fixes the content too while `turn` is at most 90: a square turned by 90 degrees and an ellipse
    turned by 180 look as before.

    The same arguments give the same images, byte for byte, whichever are drawn together.

    Args:
        size: Side of the images in pixels, 8 or more; 32 for small models.
        colours: How many of red, green, blue, yellow, magenta, cyan and white.
        scales: Number of scales, evenly from 1/2 to 1.
        orientations: Number of orientations, evenly from 0 to less than `turn`.
        positions: Number of positions in each direction.
        turn: Range of the orientations in degrees, above 0 and at most 360.
        images: How many of the grid's images there are, chosen at random and evenly from the
            classes; all by default.
        valid: Share of the training classes' images that validates.
        test: Share of the images that tests, where no whole classes do.
        test_classes: How many classes test with all of their images, drawn at random, or which,
            such as `[red heart]`; 0 for held-out images of the training classes.
        seed: Of the choices at random, from 0 to 2**32 - 1.
        keep: Draw all images once and keep their bytes, so that they can stay on a GPU.

    Reference:
        Matthey, Higgins, Hassabis and Lerchner, dSprites: disentanglement testing sprites dataset,
        2017. The drawing is our own.
    """

    name: ClassVar[str] = "sprites"
    target_names: ClassVar[tuple[str, ...]] = ("scale", "orientation", "x", "y")
    """Names of the columns of `targets`."""

    def __init__(
        self,
        size: int = 64,
        colours: int = 4,
        scales: int = 3,
        orientations: int = 4,
        positions: int = 4,
        turn: float = 90.0,
        images: int | None = None,
        valid: float = 0.1,
        test: float = 0.1,
        test_classes: int | list[str] = 0,
        seed: int = 0,
        keep: bool = False,
    ) -> None:
        if size < 8:
            raise DataError(f"size must be 8 or more, got {size}")
        if not 1 <= colours <= len(COLOURS):
            raise DataError(f"colours must be from 1 to {len(COLOURS)}, got {colours}")
        if min(scales, orientations, positions) < 1:
            raise DataError(
                "scales, orientations and positions must be 1 or more, "
                f"got {scales}, {orientations} and {positions}"
            )
        if not 0 < turn <= 360:
            raise DataError(f"turn must be above 0 and at most 360 degrees, got {turn}")
        if images is not None and images < 1:
            raise DataError(f"images must be 1 or more, got {images}")
        check_shares(valid, test, test_classes, seed)
        self.image_shape = (3, size, size)
        self.colours = colours
        self.levels = (scales, orientations, positions, positions)
        self.turn = turn
        self.images = images
        self.valid, self.test, self.test_classes = valid, test, test_classes
        self.seed = seed
        self.keep = keep
        self.label_names = tuple(
            f"{colour} {shape}" for shape in SHAPES for colour in list(COLOURS)[:colours]
        )

    @property
    def num_contents(self) -> int:
        """How many contents the grid has."""
        return math.prod(self.levels)

    @property
    def factor_names(self) -> tuple[str, ...]:  # type: ignore[override]  # follows the arguments
        """Those of shape, colour, scale, orientation, x and y that vary."""
        return tuple(name for name, _ in self._varying)

    @property
    def factor_sizes(self) -> tuple[int, ...]:  # type: ignore[override]  # follows the arguments
        """Of `factor_names`."""
        return tuple(count for _, count in self._varying)

    @property
    def _varying(self) -> list[tuple[str, int]]:
        levels = (len(SHAPES), self.colours, *self.levels)
        names = ("shape", "colour", *self.target_names)
        return [factor for factor in zip(names, levels, strict=True) if factor[1] > 1]

    def splits(self) -> Splits:
        """Choose the images of each split; they are drawn when they are asked for.

        Raises:
            DataError: If a class has one training image, or `test_classes` names no class.
        """
        grid = torch.arange(len(self.label_names) * self.num_contents)
        if self.images is not None:
            order = stratified_order(grid // self.num_contents, self.seed)
            grid = torch.from_numpy(order[: self.images]).sort().values
        labels, content = grid // self.num_contents, grid % self.num_contents
        held_out = held_out_classes(self.test_classes, self.label_names, self.seed)
        parts = class_splits(labels, held_out, valid=self.valid, test=self.test, seed=self.seed)
        require_two_images(
            labels[parts[0]],
            self.label_names,
            place=self.name,
            way_out="ask for more images, or hold out smaller shares",
        )
        return Splits(*(self._split(labels[rows], content[rows]) for rows in parts))

    def factors(self, content: Tensor) -> Tensor:
        """The factors' values.

        Args:
            content: Numbers of contents, int64 of shape (N,).

        Returns:
            float32 of shape (N, 4), a column for each of `target_names`.

        Example:
            >>> Sprites(scales=3, orientations=4, positions=3).factors(torch.tensor([0, 44, 107]))
            tensor([[0.5000, 0.0000, 0.0000, 0.0000],
                    [0.7500, 0.0000, 1.0000, 1.0000],
                    [1.0000, 1.1781, 1.0000, 1.0000]])
        """
        scales, orientations, positions, _ = self.levels
        angles = torch.arange(orientations) * (math.radians(self.turn) / orientations)
        grids = (
            _evenly(SMALLEST_SCALE, 1.0, scales, alone=1.0),
            angles,
            _evenly(0.0, 1.0, positions, alone=0.5),
            _evenly(0.0, 1.0, positions, alone=0.5),
        )
        numbers = torch.unravel_index(content, self.levels)
        columns = [grid[number] for grid, number in zip(grids, numbers, strict=True)]
        return torch.stack(columns, dim=1).to(torch.float32)

    def draw(self, labels: Tensor, content: Tensor) -> Tensor:
        """Any images of the grid, such as the ones that a transfer should give.

        Args:
            labels: Classes, int64 of shape (N,).
            content: Contents, int64 of shape (N,).

        Returns:
            uint8 images of shape (N, 3, size, size).
        """
        scale, angle, x, y = self.factors(content).unbind(1)
        shape, colour = labels // self.colours, labels % self.colours
        return draw_sprites(shape, colour, scale, angle, x, y, side=self.image_shape[-1])

    def _split(self, labels: Tensor, content: Tensor) -> LabelledImages:
        targets = self.factors(content)
        grid = labels * self.num_contents + content
        factors = torch.stack(torch.unravel_index(grid, self.factor_sizes), dim=1)
        if self.keep:
            images = self.draw(labels, content)
            return LabelledImages(images, labels, content=content, targets=targets, factors=factors)
        return DrawnImages(
            self.draw,
            self.image_shape,
            labels=labels,
            content=content,
            targets=targets,
            factors=factors,
        )


class DrawnImages(LabelledImages):
    """Images that are drawn whenever they are asked for.

    Args:
        draw: Makes uint8 images of shape (N, C, H, W) of classes and contents.
        shape: Channels, height and width.
        labels: Classes, int64 of shape (N,).
        content: Contents, int64 of shape (N,).
        targets: float32 of shape (N, T).
        factors: int64 of shape (N, F).
    """

    def __init__(
        self,
        draw: Callable[[Tensor, Tensor], Tensor],
        shape: tuple[int, int, int],
        *,
        labels: Tensor,
        content: Tensor,
        targets: Tensor,
        factors: Tensor,
    ) -> None:
        # a shape without bytes, which cannot be mistaken for images: reading from it fails
        nothing = torch.empty(len(labels), *shape, dtype=torch.uint8, device="meta")
        super().__init__(nothing, labels, content=content, targets=targets, factors=factors)
        self._draw, self._content = draw, content

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """A batch in the order of `indices`, drawn now."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        labels = self.labels[index]
        images = self._draw(labels, self._content[index])
        return {"image": self._to_float(images), "label": labels, "index": index}


def _evenly(first: float, last: float, count: int, *, alone: float) -> Tensor:
    if count == 1:
        return torch.tensor([alone])
    return torch.linspace(first, last, count)
