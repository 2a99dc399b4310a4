"""LORD's networks for its rivals: the encoders as one network, the generator with a variance."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from dcorr_models.errors import UserError
from dcorr_models.nets.lord import ARCHITECTURES, LordEncoder, LordGenerator

__all__ = ["RivalArchitecture", "TwoEncoders", "WithLogVariance", "lord_encoders", "lord_generator"]

RivalArchitecture = Literal["published", "lord64", "lord128", "sprites_small"]
"""The networks of a rival's own paper, or LORD's of one of its sizes, for equal comparisons."""


class TwoEncoders(nn.Module):
    """Two encoders that share nothing, seen as one: images to the numbers of both codes.

    Args:
        class_encoder: images to (N, K).
        content_encoder: images to (N, Z).
    """

    def __init__(self, class_encoder: nn.Module, content_encoder: nn.Module) -> None:
        super().__init__()
        self.class_encoder, self.content_encoder = class_encoder, content_encoder

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, K + Z): the class code's numbers first."""
        return torch.cat([self.class_encoder(images), self.content_encoder(images)], dim=1)


class WithLogVariance(nn.Module):
    """A generator of 2C channels in (0, 1) as one of images and their log-variances in (-1, 1).

    2 sigmoid(a) - 1 = tanh(a / 2), so that the range is that of ML-VAE's own decoder.

    Args:
        generator: (class code, content code) to (N, 2C, H, W).
    """

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, class_code: Tensor, content_code: Tensor) -> Tensor:
        """-> (N, 2C, H, W): images, then log-variances."""
        images, rest = self.generator(class_code, content_code).chunk(2, dim=1)
        return torch.cat([images, 2 * rest - 1], dim=1)


def lord_encoders(
    image_shape: tuple[int, int, int], architecture: str, class_size: int, content_size: int
) -> TwoEncoders:
    """LORD's two encoders, giving so many numbers for the class and for the content.

    Raises:
        UserError: images of another side than the architecture's.

    Example:
        >>> encoder = lord_encoders((3, 32, 32), "sprites_small", 5, 7)
        >>> encoder(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 12])
    """
    _check_side(image_shape, architecture)
    sizes = ARCHITECTURES[architecture]
    return TwoEncoders(
        LordEncoder(image_shape, sizes, class_size), LordEncoder(image_shape, sizes, content_size)
    )


def lord_generator(
    image_shape: tuple[int, int, int],
    architecture: str,
    class_dim: int,
    content_dim: int,
    *,
    log_variance: bool = False,
) -> nn.Module:
    """LORD's generator, called with (class code, content code).

    Raises:
        UserError: images of another side than the architecture's.

    Example:
        >>> net = lord_generator((3, 32, 32), "sprites_small", 5, 7, log_variance=True)
        >>> net(torch.zeros(2, 5), torch.zeros(2, 7)).shape
        torch.Size([2, 6, 32, 32])
    """
    _check_side(image_shape, architecture)
    channels, height, width = image_shape
    shape = (2 * channels if log_variance else channels, height, width)
    generator = LordGenerator(shape, ARCHITECTURES[architecture], class_dim, content_dim)
    return WithLogVariance(generator) if log_variance else generator


def _check_side(image_shape: tuple[int, int, int], architecture: str) -> None:
    side = ARCHITECTURES[architecture].side
    if tuple(image_shape[1:]) != (side, side):
        raise UserError(
            f"image_shape {tuple(image_shape)} does not fit architecture {architecture!r}: its "
            f"images have {side} x {side} pixels"
        )
