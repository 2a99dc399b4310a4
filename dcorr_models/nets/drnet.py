"""DrNet's networks: DCGAN encoders and decoder, with skips between them, and the scene critic.

Denton and Birodkar 2017, as in the authors' code for 64x64 pixels. In the words of this package,
their content code is the class code, and their pose code the content code.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from dcorr_models.nets.blocks import conv_down

__all__ = ["SIDE", "WIDTHS", "DcganDecoder", "DcganEncoder", "SceneDiscriminator", "skip_shapes"]

WIDTHS = (64, 128, 256, 512)
SLOPE = 0.2
# Side of the last maps, which one convolution makes a code of.
LAST_SIDE = 4
SIDE = LAST_SIDE << len(WIDTHS)


def skip_shapes(side: int, widths: tuple[int, ...] = WIDTHS) -> list[tuple[int, int, int]]:
    """Shapes of an encoder's maps, the finest first.

    Example:
        >>> skip_shapes(16, (8, 16))
        [(8, 8, 8), (16, 4, 4)]
    """
    halvings = range(1, len(widths) + 1)
    return [(width, side >> k, side >> k) for k, width in zip(halvings, widths, strict=True)]


class DcganEncoder(nn.Module):
    """Images to a code in (-1, 1); with `skips`, all maps on the way follow the code, flat.

    Args:
        channels: of the images, whose side is 4 · 2^len(widths).
        code_dim: numbers of the code.
        skips: the output has the maps' numbers too, the finest map first.
        widths: channels after each halving convolution.

    Example:
        >>> DcganEncoder(3, 10, widths=(4, 8))(torch.zeros(2, 3, 16, 16)).shape
        torch.Size([2, 10])
        >>> DcganEncoder(3, 10, widths=(4, 8), skips=True)(torch.zeros(2, 3, 16, 16)).shape
        torch.Size([2, 394])
    """

    def __init__(
        self,
        channels: int,
        code_dim: int,
        *,
        skips: bool = False,
        widths: tuple[int, ...] = WIDTHS,
    ) -> None:
        super().__init__()
        self.skips = skips
        self.down = nn.ModuleList(
            conv_down(a, b, bias=True, slope=SLOPE)
            for a, b in itertools.pairwise((channels, *widths))
        )
        self.code = nn.Sequential(
            nn.Conv2d(widths[-1], code_dim, LAST_SIDE), nn.BatchNorm2d(code_dim), nn.Tanh()
        )

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, code_dim), or (N, code_dim + numbers of the maps)."""
        h, maps = images, []
        for block in self.down:
            h = block(h)
            maps.append(h.flatten(1))
        code: Tensor = self.code(h).flatten(1)
        return torch.cat([code, *maps], dim=1) if self.skips else code


class DcganDecoder(nn.Module):
    """Class code and content code to images in [0, 1].

    Args:
        channels: of the images.
        class_dim: numbers of the class encoder's code, without maps.
        content_dim: numbers of the content code.
        skips: the class code has the maps of `DcganEncoder(skips=True)` behind it, and each is
            seen by the layer that doubles maps of its size.
        widths: as the encoder's.

    Example:
        >>> decoder = DcganDecoder(3, 10, 5, widths=(4, 8), skips=True)
        >>> decoder(torch.zeros(2, 394), torch.zeros(2, 5)).shape
        torch.Size([2, 3, 16, 16])
    """

    def __init__(
        self,
        channels: int,
        class_dim: int,
        content_dim: int,
        *,
        skips: bool = False,
        widths: tuple[int, ...] = WIDTHS,
    ) -> None:
        super().__init__()
        self.class_dim, self.skips = class_dim, skips
        self.shapes = skip_shapes(LAST_SIDE << len(widths), widths)
        self.first = _doubled(class_dim + content_dim, widths[-1], stride=1, padding=0)
        wide = 2 if skips else 1
        self.up = nn.ModuleList(_doubled(wide * a, b) for a, b in itertools.pairwise(widths[::-1]))
        self.output = nn.Sequential(
            nn.ConvTranspose2d(wide * widths[0], channels, 4, stride=2, padding=1), nn.Sigmoid()
        )

    def forward(self, class_code: Tensor, content_code: Tensor) -> Tensor:
        """(N, class_dim, or more with skips), (N, content_dim) -> (N, C, H, W)."""
        code = torch.cat([class_code[:, : self.class_dim], content_code], dim=1)
        h = self.first(code[:, :, None, None])
        maps = self._maps(class_code)
        for block in (*self.up, self.output):
            h = block(torch.cat([h, maps.pop()], dim=1) if self.skips else h)
        images: Tensor = h
        return images

    def _maps(self, class_code: Tensor) -> list[Tensor]:
        if not self.skips:
            return []
        ends = itertools.accumulate((c * h * w for c, h, w in self.shapes), initial=self.class_dim)
        flat = class_code.tensor_split([*ends], dim=1)[1:-1]
        return [part.reshape(-1, *shape) for part, shape in zip(flat, self.shapes, strict=True)]


class SceneDiscriminator(nn.Module):
    """Whether two content codes come from images of one class: a logit.

    Args:
        content_dim: numbers of a content code.
        hidden: units of each of the two hidden layers.

    Example:
        >>> SceneDiscriminator(10)(torch.zeros(2, 10), torch.zeros(2, 10)).shape
        torch.Size([2, 1])
    """

    def __init__(self, content_dim: int, *, hidden: int = 100) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 * content_dim, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """(N, content_dim) twice -> (N, 1)."""
        logits: Tensor = self.layers(torch.cat([first, second], dim=1))
        return logits


def _doubled(a: int, b: int, *, stride: int = 2, padding: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(a, b, 4, stride=stride, padding=padding),
        nn.BatchNorm2d(b),
        nn.LeakyReLU(SLOPE),
    )
