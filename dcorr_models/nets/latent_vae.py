"""Encoder and decoder of the beta-VAE family, without norm: ID-GAN's, at 64 and at 32 pixels."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from dcorr_models.errors import UserError

__all__ = ["WIDTHS", "LatentDecoder", "LatentEncoder", "conv_widths"]

WIDTHS: dict[int, tuple[int, ...]] = {64: (32, 32, 64, 64), 32: (32, 64, 64)}
"""Channels after each halving of the encoder, by the side of the images; 32 has one less."""
DENSE = 256
SMALLEST = 4


def conv_widths(image_shape: tuple[int, int, int]) -> tuple[int, ...]:
    """The channels for images of this shape.

    Raises:
        UserError: there is no network for it.

    Example:
        >>> conv_widths((1, 32, 32))
        (32, 64, 64)
    """
    _, height, width = image_shape
    if height != width or height not in WIDTHS:
        sides = " or ".join(f"{side} x {side}" for side in sorted(WIDTHS))
        raise UserError(
            f"image_shape {tuple(image_shape)} has no encoder and decoder of its own: they are "
            f"made for {sides} pixels; take the data in one of these sizes, or give networks of "
            "your own"
        )
    return WIDTHS[height]


class LatentEncoder(nn.Sequential):
    """Images to `out` numbers: halving convolutions of kernel 4, one over all that is left, dense.

    Args:
        image_shape: channels, height and width: 64 or 32 pixels a side.
        out: how many numbers: twice the code's size for means, then log-variances; 1 for a critic.

    Example:
        >>> import torch
        >>> LatentEncoder((1, 64, 64), 20)(torch.zeros(2, 1, 64, 64)).shape
        torch.Size([2, 20])
    """

    def __init__(self, image_shape: tuple[int, int, int], out: int) -> None:
        widths = (image_shape[0], *conv_widths(image_shape))
        layers: list[nn.Module] = []
        for a, b in pairwise(widths):
            layers += [nn.Conv2d(a, b, 4, stride=2, padding=1), nn.ReLU()]
        layers += [nn.Conv2d(widths[-1], DENSE, SMALLEST), nn.ReLU(), nn.Flatten()]
        super().__init__(*layers, nn.Linear(DENSE, out))


class LatentDecoder(nn.Sequential):
    """Codes to images, as logits: the encoder backwards.

    Args:
        image_shape: channels, height and width: 64 or 32 pixels a side.
        latent_dim: size of the code.

    Example:
        >>> import torch
        >>> LatentDecoder((3, 32, 32), 10)(torch.zeros(2, 10)).shape
        torch.Size([2, 3, 32, 32])
    """

    def __init__(self, image_shape: tuple[int, int, int], latent_dim: int) -> None:
        widths = (image_shape[0], *conv_widths(image_shape))[::-1]
        layers: list[nn.Module] = [nn.Linear(latent_dim, DENSE), nn.ReLU()]
        layers += [nn.Unflatten(1, (DENSE, 1, 1)), nn.ConvTranspose2d(DENSE, widths[0], SMALLEST)]
        for a, b in pairwise(widths):
            layers += [nn.ReLU(), nn.ConvTranspose2d(a, b, 4, stride=2, padding=1)]
        super().__init__(*layers)
