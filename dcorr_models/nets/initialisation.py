"""Initial weights, where a paper's code draws other ones than PyTorch does."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

__all__ = ["INITIALISATIONS", "Initialisation", "init_dcgan", "init_scaled_uniform", "initialise"]

Initialisation = Literal["scaled_uniform", "dcgan", "default"]
LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@torch.no_grad()
def init_scaled_uniform(network: nn.Module) -> None:
    """Weights uniform in ±1/√(3 m), m the elements of weight[0]; biases 0; BatchNorm untouched.

    As in CDNet's ports of IcGAN (generator, discriminator) and VAE/GAN. For a transposed
    convolution, whose weight has the input channels first, m counts its outputs.

    Example:
        >>> layer = nn.Linear(12, 5)
        >>> init_scaled_uniform(layer)
        >>> bool(layer.weight.abs().max() <= 1 / 6), layer.bias.abs().max().item()
        (True, 0.0)
    """
    for layer in network.modules():
        if isinstance(layer, LAYERS):
            bound = 1 / math.sqrt(3 * layer.weight[0].numel())
            layer.weight.uniform_(-bound, bound)
            if layer.bias is not None:
                layer.bias.zero_()


@torch.no_grad()
def init_dcgan(network: nn.Module) -> None:
    """Weights N(0, 0.02²), gains of BatchNorm N(1, 0.02²), all biases 0: IcGAN's original code.

    Example:
        >>> layer = nn.BatchNorm1d(10_000)
        >>> init_dcgan(layer)
        >>> round(layer.weight.mean().item(), 2), round(layer.weight.std().item(), 2)
        (1.0, 0.02)
    """
    for layer in network.modules():
        if isinstance(layer, LAYERS):
            layer.weight.normal_(0.0, 0.02)
            if layer.bias is not None:
                layer.bias.zero_()
        elif isinstance(layer, NORMS):
            layer.weight.normal_(1.0, 0.02)
            layer.bias.zero_()


INITIALISATIONS: dict[str, Callable[[nn.Module], None] | None] = {
    "scaled_uniform": init_scaled_uniform,
    "dcgan": init_dcgan,
    "default": None,
}


def initialise(network: nn.Module, name: str) -> None:
    """Draws a network's weights anew by the named rule; `default` leaves them as PyTorch made them.

    Raises:
        KeyError: a name that is none of `INITIALISATIONS`.
    """
    rule = INITIALISATIONS[name]
    if rule is not None:
        rule(network)
