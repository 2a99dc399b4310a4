"""White sprites on dSprites' grid, drawn here: the stand-in for its release."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from dcorr_models.data.sprite_rendering import SHAPES, draw_coverage
from dcorr_models.data.sprites import Sprites

__all__ = ["GreySprites"]

_HALF_COVERED = 128


class GreySprites(Sprites):
    """dSprites' grid without its file: white sprites, one channel, the class is the shape.

    The factors and their numbers of levels are dSprites' by default, 737,280 images. The drawing is
    that of `Sprites`: larger sprites than the release's, and no orientation comes twice. Squares
    look alike after a quarter turn and ellipses after half a turn, as in the release, unless
    `turn` is at most 90. Everything else is as with `Sprites`.

    Args:
        size: Side of the images in pixels, 8 or more; 32 for small models.
        scales: Number of scales, evenly from 1/2 to 1.
        orientations: Number of orientations, evenly from 0 to less than `turn`.
        positions: Number of positions in each direction.
        turn: Range of the orientations in degrees, above 0 and at most 360.
        binary: Pixels are 1 where the sprite covers half of them or more, else 0, as in dSprites;
            otherwise the share that it covers.
        images: How many of the grid's images there are, chosen at random and evenly from the
            classes; all by default.
        valid: Share of the training classes' images that validates.
        test: Share of the images that tests, where no whole classes do.
        test_classes: How many classes test with all of their images, drawn at random, or which,
            such as `[heart]`; 0 for held-out images of the training classes.
        seed: Of the choices at random, from 0 to 2**32 - 1.
        keep: Draw all images once and keep their bytes, so that they can stay on a GPU.

    Example:
        >>> data = GreySprites(size=32, orientations=4, positions=8)
        >>> data.factor_names, data.factor_sizes
        (('shape', 'scale', 'orientation', 'x', 'y'), (3, 6, 4, 8, 8))
        >>> train = data.splits().train
        >>> train[0]["image"].shape, train[0]["image"].unique().tolist(), train.factors.shape
        (torch.Size([1, 32, 32]), [0.0, 1.0], torch.Size([3686, 5]))

    Reference:
        Matthey, Higgins, Hassabis and Lerchner, dSprites: disentanglement testing sprites dataset,
        2017. The drawing is our own.
    """

    name: ClassVar[str] = "grey sprites"

    def __init__(
        self,
        size: int = 64,
        scales: int = 6,
        orientations: int = 40,
        positions: int = 32,
        turn: float = 360.0,
        binary: bool = True,
        images: int | None = None,
        valid: float = 0.1,
        test: float = 0.1,
        test_classes: int | list[str] = 0,
        seed: int = 0,
        keep: bool = False,
    ) -> None:
        super().__init__(
            size=size,
            colours=1,
            scales=scales,
            orientations=orientations,
            positions=positions,
            turn=turn,
            images=images,
            valid=valid,
            test=test,
            test_classes=test_classes,
            seed=seed,
            keep=keep,
        )
        self.binary = binary
        self.image_shape = (1, size, size)
        self.label_names = SHAPES

    def draw(self, labels: Tensor, content: Tensor) -> Tensor:
        """Any images of the grid.

        Args:
            labels: Shapes, int64 of shape (N,).
            content: Contents, int64 of shape (N,).

        Returns:
            uint8 images of shape (N, 1, size, size).
        """
        scale, angle, x, y = self.factors(content).unbind(1)
        grey = draw_coverage(labels, scale, angle, x, y, side=self.image_shape[-1])
        return (grey >= _HALF_COVERED).to(torch.uint8) * 255 if self.binary else grey
