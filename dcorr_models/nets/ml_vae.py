"""ML-VAE's dense networks: one encoder for both Gaussians, a decoder with a variance of its own.

Bouchacourt, Tomioka and Nowozin 2018, as in the official code for MNIST.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["DenseDecoder", "DenseEncoder"]


class DenseEncoder(nn.Sequential):
    """Images to numbers through one hidden layer of tanh units.

    Args:
        image_shape: (channels, height, width).
        out_features: numbers of an image: the heads of both codes share the hidden layer.
        hidden: its units.

    Example:
        >>> DenseEncoder((1, 28, 28), 40)(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 40])
    """

    def __init__(
        self, image_shape: tuple[int, int, int], out_features: int, *, hidden: int = 500
    ) -> None:
        super().__init__(
            nn.Flatten(),
            nn.Linear(math.prod(image_shape), hidden),
            nn.Tanh(),
            nn.Linear(hidden, out_features),
        )


class DenseDecoder(nn.Module):
    """Both codes to images in [0, 1] and the log-variance of each of their values, in (-1, 1).

    Args:
        image_shape: (channels, height, width).
        code_size: numbers of both codes together.
        hidden: units of the hidden layer.

    Example:
        >>> decoder = DenseDecoder((1, 28, 28), 20)
        >>> decoder(torch.zeros(2, 10), torch.zeros(2, 10)).shape
        torch.Size([2, 2, 28, 28])
    """

    def __init__(
        self, image_shape: tuple[int, int, int], code_size: int, *, hidden: int = 500
    ) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.hidden = nn.Sequential(nn.Linear(code_size, hidden), nn.Tanh())
        self.mean = nn.Sequential(nn.Linear(hidden, math.prod(image_shape)), nn.Sigmoid())
        self.log_variance = nn.Sequential(nn.Linear(hidden, math.prod(image_shape)), nn.Tanh())

    def forward(self, class_code: Tensor, content_code: Tensor) -> Tensor:
        """(N, K), (N, Z) with K + Z = code_size -> (N, 2C, H, W): images, then log-variances."""
        h = self.hidden(torch.cat([class_code, content_code], dim=1))
        halves = [
            half.unflatten(1, self.image_shape) for half in (self.mean(h), self.log_variance(h))
        ]
        return torch.cat(halves, dim=1)
