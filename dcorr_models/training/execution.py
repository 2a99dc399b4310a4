"""How the arithmetic of a run is carried out: memory format, and compilation of the networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

__all__ = ["Execution"]


@dataclass(frozen=True)
class Execution:
    """Switches for speed. They change the result of a run by rounding alone.

    Args:
        channels_last: keep images and the weights of convolutions with channels as the fastest
            dimension: what the tensor cores of a GPU read.
        compile: run each network through `torch.compile`. The first step of a stage takes a
            minute or so; random numbers (dropout) stay those of the network as it is.
        cuda_graphs: with `compile`, replay each compiled network as one CUDA graph, for steps so
            small that starting their kernels takes longer than running them. Without effect on
            a CPU.

    Raises:
        ValueError: `cuda_graphs` without `compile`.

    Example:
        >>> net = Execution(channels_last=True).prepare(nn.Conv2d(2, 4, 3))
        >>> net.weight.stride()
        (18, 1, 6, 2)
    """

    channels_last: bool = False
    compile: bool = False
    cuda_graphs: bool = False

    def __post_init__(self) -> None:
        if self.cuda_graphs and not self.compile:
            raise ValueError("cuda_graphs replays compiled networks: it needs compile as well")

    def prepare(self, network: nn.Module) -> nn.Module:
        """The network to call: its own weights in place, compiled or as it is."""
        if self.channels_last:
            network = cast(Any, network).to(memory_format=torch.channels_last)  # not in its stubs
        if not self.compile:
            return network
        # Inductor's own random numbers are others than PyTorch's: a run compiled and the same run
        # as it is would drop different units.
        options = {"fallback_random": True, "triton.cudagraphs": self.cuda_graphs}
        compiled: nn.Module = cast(Any, torch.compile)(network, options=options)
        return compiled

    def place(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The batch with its images in the networks' memory format."""
        if not self.channels_last:
            return batch
        return {
            k: v.contiguous(memory_format=torch.channels_last) if v.ndim == 4 else v
            for k, v in batch.items()
        }
