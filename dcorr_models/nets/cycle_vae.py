"""Cycle-VAE's networks for MNIST: strided convolutions with instance normalisation.

Jha, Anand, Singh and Veeravasarapu 2018, as in the authors' code: 28x28 pixels are halved to 13, 6
and 2, and doubled from 2 to 6, 14 and 28.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

__all__ = ["SIDE", "InstanceNormDecoder", "InstanceNormEncoder", "init_published"]

SIDE = 28
WIDTHS = (16, 32, 64)
LAST_SIDE = 2


class InstanceNormEncoder(nn.Sequential):
    """Images of 28x28 to the numbers of both codes, one linear layer over the last maps.

    Args:
        channels: of the images.
        out_features: numbers of an image.

    Example:
        >>> InstanceNormEncoder(1, 48)(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 48])
    """

    def __init__(self, channels: int, out_features: int) -> None:
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise((channels, *WIDTHS)):
            layers += [nn.Conv2d(a, b, 5, stride=2, padding=1), nn.InstanceNorm2d(b), nn.ReLU()]
        flat = WIDTHS[-1] * LAST_SIDE**2
        super().__init__(*layers, nn.Flatten(), nn.Linear(flat, out_features))


class InstanceNormDecoder(nn.Module):
    """Both codes to images of 28x28 in [0, 1].

    Args:
        channels: of the images.
        class_dim: numbers of the class code.
        content_dim: numbers of the content code.

    Example:
        >>> decoder = InstanceNormDecoder(1, 16, 16)
        >>> decoder(torch.zeros(2, 16), torch.zeros(2, 16)).shape
        torch.Size([2, 1, 28, 28])
    """

    def __init__(self, channels: int, class_dim: int, content_dim: int) -> None:
        super().__init__()
        flat = WIDTHS[-1] * LAST_SIDE**2  # for each of the two codes
        self.class_input = nn.Sequential(nn.Linear(class_dim, flat), nn.LeakyReLU(0.2))
        self.content_input = nn.Sequential(nn.Linear(content_dim, flat), nn.LeakyReLU(0.2))
        self.up = nn.Sequential(
            nn.ConvTranspose2d(2 * WIDTHS[2], WIDTHS[1], 4, stride=2),
            nn.InstanceNorm2d(WIDTHS[1]),
            nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(WIDTHS[1], WIDTHS[0], 4, stride=2),
            nn.InstanceNorm2d(WIDTHS[0]),
            nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(WIDTHS[0], channels, 4, stride=2, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, class_code: Tensor, content_code: Tensor) -> Tensor:
        """(N, class_dim), (N, content_dim) -> (N, C, 28, 28)."""
        h = torch.cat([self.content_input(content_code), self.class_input(class_code)], dim=1)
        images: Tensor = self.up(h.reshape(-1, 2 * WIDTHS[2], LAST_SIDE, LAST_SIDE))
        return images


@torch.no_grad()
def init_published(network: nn.Module) -> None:
    """Weights N(0, 0.05²) and biases 0, but for transposed convolutions: the authors' code.

    Example:
        >>> layer = nn.Linear(100, 100)
        >>> init_published(layer)
        >>> round(layer.weight.std().item(), 2), layer.bias.abs().max().item()
        (0.05, 0.0)
    """
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.weight.normal_(0.0, 0.05)
            if layer.bias is not None:
                layer.bias.zero_()
