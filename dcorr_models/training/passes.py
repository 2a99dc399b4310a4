"""Several passes of one network within one call."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

__all__ = ["Passes"]


class Passes(nn.Module):
    """Runs a network once for each tuple of inputs: several batches, each with its own statistics.

    A stage wraps a network in it where an update needs more than one pass: with several processes
    DDP hears of the network through a single call before each backward, as it wants to.

    Args:
        network: called with the tensors of each tuple.

    Example:
        >>> net = Passes(nn.Identity())
        >>> [x.item() for x in net((Tensor([1.0]),), (Tensor([2.0]),))]
        [1.0, 2.0]
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: tuple[Tensor, ...]) -> list[Any]:
        """The network's outputs, in the order of the inputs."""
        return [self.network(*tensors) for tensors in inputs]
