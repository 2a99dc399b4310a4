"""A network whose parameters are running means of another's: what GANs are evaluated with."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn

__all__ = ["AveragedNetwork"]


class AveragedNetwork(nn.Module):
    """A copy of a network whose parameters follow it, with exponentially falling weights.

    A stage that names it in its `networks` keeps it in the checkpoints; no optimizer moves it.
    Parameters are averaged, buffers are copied.

    Args:
        network: copied as it is now: the mean begins there.
        decay: share of the mean so far that is kept, in [0, 1].

    Raises:
        ValueError: a decay outside of [0, 1].

    Example:
        >>> net = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.zeros_(net.weight)
        >>> mean = AveragedNetwork(net, decay=0.75)
        >>> _ = nn.init.ones_(net.weight)
        >>> mean.follow(net)
        >>> mean(torch.ones(1, 1)).item()
        0.25
    """

    def __init__(self, network: nn.Module, *, decay: float = 0.999) -> None:
        super().__init__()
        if not 0 <= decay <= 1:
            raise ValueError(f"decay must lie in [0, 1], got {decay}")
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.decay = decay

    def follow(self, network: nn.Module) -> None:
        """Takes one step towards the network's parameters, and all of its buffers.

        Args:
            network: the one that this is a copy of, after an update.
        """
        self._step(network, 1 - self.decay)

    def restart(self, network: nn.Module) -> None:
        """Becomes the network as it is now: processes begin with the first one's weights."""
        self._step(network, 1.0)

    @torch.no_grad()
    def _step(self, network: nn.Module, share: float) -> None:
        own = [parameter.data for parameter in self.network.parameters()]
        others = [parameter.data for parameter in network.parameters()]
        # One launch on a GPU for all parameters together.
        torch._foreach_lerp_(own, others, share)
        for mine, other in zip(self.network.buffers(), network.buffers(), strict=True):
            mine.copy_(other)

    def forward(self, *inputs: Tensor) -> Tensor:
        """The averaged network's output."""
        return cast(Tensor, self.network(*inputs))
