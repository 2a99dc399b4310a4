"""A data set of two factors, and methods that read and draw them exactly, or wrongly on purpose."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dcorr_models.data import DataSource, LabelledImages, Splits
from dcorr_models.methods.latent_variable import Gaussian, LatentVariable

SIDE, SHADES = 12, 4
NAMES = ("x", "shade", "constant")


def column_images(repeats: int) -> LabelledImages:
    """A column of each place and shade; nobody knows a label."""
    grid = torch.cartesian_prod(torch.arange(SIDE), torch.arange(SHADES), torch.arange(1))
    factors = grid.repeat(repeats, 1)
    images = torch.zeros(len(factors), 1, SIDE, SIDE, dtype=torch.uint8)
    shade = 60 + 65 * factors[:, 1]
    images[torch.arange(len(factors)), 0, :, factors[:, 0]] = shade[:, None].to(torch.uint8)
    return LabelledImages(images, torch.full((len(factors),), -1), factors=factors)


SPLITS = Splits(column_images(8), column_images(1), column_images(2))


class Columns(LatentVariable):
    """Reads place and shade off an image, each N(0, 1) over the grid, and draws them again.

    Args:
        mixed: its numbers are turned by 45 degrees.
        collapsed: it tells nothing.
        misled: it draws another image than it was asked for.
    """

    image_shape = (1, SIDE, SIDE)
    latent_dim = 2

    def __init__(self, *, mixed: bool = False, collapsed: bool = False, misled: bool = False):
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))
        turn = torch.tensor([[1.0, 1.0], [-1.0, 1.0]]) / 2**0.5
        self.turn = turn if mixed else torch.eye(2)
        self.collapsed, self.misled = collapsed, misled
        factors = SPLITS.train.factors[:, :2].float()
        self.mean, self.std = factors.mean(dim=0), factors.std(dim=0)

    def stages(self):
        return []

    def posterior(self, images: Tensor) -> Gaussian:
        rows = images[:, 0, 0]
        bright, place = rows.max(dim=1)
        known = torch.stack([place.float(), (bright * 255 - 60) / 65], dim=1)
        mean = (known - self.mean) / self.std @ self.turn
        mean = torch.zeros_like(mean) if self.collapsed else mean
        return Gaussian(mean, torch.full_like(mean, 0.0 if self.collapsed else -6.0))

    def render(self, c: Tensor, s: Tensor) -> Tensor:
        c = -c if self.misled else c
        known = (c @ self.turn.T * self.std + self.mean).round()
        place = known[:, 0].nan_to_num().clamp(0, SIDE - 1).long()
        shade = (60 + 65 * known[:, 1].clamp(0, SHADES - 1)) / 255
        images = torch.zeros(len(c), 1, SIDE, SIDE)
        images[torch.arange(len(c)), 0, :, place] = shade[:, None]
        return images


class Drawer(Columns):
    """The same without an encoder."""

    has_encoder = False
    posterior = LatentVariable.posterior


class ColumnData(DataSource):
    """`SPLITS` as a source."""

    name = "columns"
    image_shape = (1, SIDE, SIDE)
    label_names = ()
    factor_names = NAMES
    factor_sizes = (SIDE, SHADES, 1)

    def splits(self) -> Splits:
        """The same as ever."""
        return SPLITS


class Distilled(Columns):
    """Has a VAE of its own, and nuisance numbers that brighten the image."""

    nuisance_dim = 3

    def __init__(self, *, collapsed: bool = False) -> None:
        super().__init__(collapsed=collapsed)
        self.vae = Columns()

    def render(self, c: Tensor, s: Tensor) -> Tensor:
        """With a ground of its own for each s."""
        return (super().render(c, s) + 0.1 * s[:, 0, None, None, None].sigmoid()).clamp(0, 1)
