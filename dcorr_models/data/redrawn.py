"""Images that are drawn anew whenever training asks for them, and stay put for everything else."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dcorr_models.data.base import LabelledImages

__all__ = ["RedrawnImages"]

# Some images at a time, so that what is computed on the way stays in the processor's cache.
_PIXELS_AT_ONCE = 2**17


class RedrawnImages(LabelledImages):
    """Another split's images, changed at random.

    What is random depends on a number alone: look k at image i of N has the number `i + k · N`,
    which stands for the index. Training takes another look at every step (`redrawn`), whichever
    process reads ahead and wherever it was resumed; metrics and pictures take look 0.

    Args:
        split: The images that are changed, in [0, 1].
        redraw: Makes images (B, C', H, W) of images (B, C, H, W), float32 in [0, 1] both, and their
            numbers, int64 of shape (B,), on its own device. A module without parameters.
        shape: Of a changed image, (C', H, W).
    """

    redrawn = True

    def __init__(
        self, split: LabelledImages, redraw: nn.Module, shape: tuple[int, int, int]
    ) -> None:
        # a shape without bytes, which cannot be mistaken for images: reading from it fails
        nothing = torch.empty(len(split), *shape, dtype=torch.uint8, device="meta")
        super().__init__(
            nothing,
            split.labels,
            content=split.content,
            targets=split.targets,
            factors=split.factors,
        )
        self.split, self.redraw = split, redraw

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """A batch in the order of `indices`, drawn now; `index` is the image's, whichever look."""
        numbers = torch.as_tensor(indices, dtype=torch.int64)
        batch = self.split.__getitems__((numbers % len(self)).tolist())
        images = torch.empty(len(numbers), *self.images.shape[1:])
        count = max(1, _PIXELS_AT_ONCE // images.shape[-1] ** 2)
        for first in range(0, len(numbers), count):
            rows = slice(first, first + count)
            images[rows] = self.redraw(batch["image"][rows], numbers[rows])
        return {**batch, "image": images}
