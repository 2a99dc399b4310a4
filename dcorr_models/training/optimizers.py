"""The optimisers of the papers, where they differ from PyTorch's defaults."""

from __future__ import annotations

from torch import nn
from torch.optim import RMSprop

from dcorr_models.errors import UserError

__all__ = ["parameters_of", "rmsprop"]


def parameters_of(*networks: nn.Module) -> list[nn.Parameter]:
    """What an optimizer is given: all parameters, also those whose gradient is switched off.

    Raises:
        UserError: there are none.

    Example:
        >>> len(parameters_of(nn.Linear(2, 1), nn.Flatten()))
        2
    """
    parameters = [parameter for network in networks for parameter in network.parameters()]
    if not parameters:
        names = " and ".join(type(network).__name__ for network in networks)
        raise UserError(
            f"{names} has no parameters, and an optimizer needs one: a network that is to stay as "
            "it is may hold a parameter with requires_grad=False"
        )
    return parameters


def rmsprop(module: nn.Module, lr: float, *, weight_decay: float = 0.0) -> RMSprop:
    """RMSprop as in the releases of CDNet, AE-XCov and VAE/GAN.

    Smoothing 0.9 (PyTorch's default is 0.99), epsilon 1e-8, no momentum.
    """
    return RMSprop(parameters_of(module), lr=lr, alpha=0.9, eps=1e-8, weight_decay=weight_decay)
