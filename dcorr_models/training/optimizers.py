"""The optimisers of the papers, where they differ from PyTorch's defaults."""

from __future__ import annotations

from torch import nn
from torch.optim import RMSprop

__all__ = ["rmsprop"]


def rmsprop(module: nn.Module, lr: float, *, weight_decay: float = 0.0) -> RMSprop:
    """RMSprop as in the releases of CDNet, AE-XCov and VAE/GAN.

    Smoothing 0.9 (PyTorch's default is 0.99), epsilon 1e-8, no momentum.
    """
    return RMSprop(module.parameters(), lr=lr, alpha=0.9, eps=1e-8, weight_decay=weight_decay)
