"""Learning rates as functions of the step, and rates that wait for the loss."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["CosineRate", "Plateau"]


@dataclass(frozen=True)
class CosineRate:
    r"""Half a cosine from `start` to `end`: $e + (s - e) (1 + \cos(\pi\, t / T)) / 2$.

    Args:
        start: s, the rate of the first step.
        end: e; the same as `start` for a constant rate.
        steps: length of the training.
        every: the rate changes after so many steps: 1, or the steps of an epoch. T and t count
            such ticks; the last, incomplete one counts as one.

    Example:
        >>> rate = CosineRate(1.0, 0.0, steps=4)
        >>> [round(value, 4) for value in rate(torch.arange(1, 5)).tolist()]
        [1.0, 0.8536, 0.5, 0.1464]
        >>> round(rate.factor(2), 4)
        0.5
    """

    start: float
    end: float
    steps: int
    every: int = 1

    def __call__(self, step: Tensor) -> Tensor:
        """Rates (float64) of steps that count from 1."""
        ticks = (step.double() - 1).div(self.every, rounding_mode="floor")
        total = max(1, -(-self.steps // self.every))
        return self.end + (self.start - self.end) * (1 + (math.pi * ticks / total).cos()) / 2

    def factor(self, done: int) -> float:
        """The rate after `done` steps, as a share of `start`: what `LambdaLR` asks for."""
        return float(self(torch.tensor(done + 1))) / self.start if self.start else 1.0


class Plateau(nn.Module):
    """Looks at the mean loss of each epoch: the rate falls, and training stops, as it stands still.

    Its buffers are its memory; in a stage's `networks` a checkpoint holds them.

    Args:
        steps_per_epoch: losses of an epoch.
        min_delta: an epoch counts as better when its mean lies lower by more than this.
        halve_after: epochs without a better one after which the rate is halved, and again after as
            many more; 0 never.
        stop_after: epochs without a better one after which training stops; 0 never.

    Example:
        >>> plateau = Plateau(1, min_delta=0.1, halve_after=1, stop_after=2)
        >>> for loss in (1.0, 0.95, 0.92):
        ...     plateau.add(torch.tensor(loss))
        ...     plateau.close(plateau.mean())
        ...     plateau.factor, plateau.stopped
        (1.0, False)
        (0.5, False)
        (0.25, True)
    """

    losses: Tensor
    state: Tensor

    def __init__(
        self, steps_per_epoch: int, *, min_delta: float, halve_after: int = 0, stop_after: int = 0
    ) -> None:
        super().__init__()
        self.steps_per_epoch, self.min_delta = steps_per_epoch, min_delta
        self.halve_after, self.stop_after = halve_after, stop_after
        self.register_buffer("losses", torch.zeros((), dtype=torch.float64))
        # Best mean, epochs since, epochs since the last halving, factor. Finite from the start:
        # checkpoints refuse infinities.
        start = [torch.finfo(torch.float64).max, 0.0, 0.0, 1.0]
        self.register_buffer("state", torch.tensor(start, dtype=torch.float64))
        # Read once an epoch, and after loading: reading makes a GPU wait.
        self._known: tuple[float, ...] | None = None
        hook = self.register_load_state_dict_post_hook
        hook(lambda module, keys: module.forget())  # type: ignore[no-untyped-call]  # torch's own

    def forget(self) -> None:
        """Reads the buffers anew when they are next asked for."""
        self._known = None

    def ends_epoch(self, step_index: int) -> bool:
        """Whether this step, from 0, is the last of an epoch."""
        return (step_index + 1) % self.steps_per_epoch == 0

    @torch.no_grad()
    def add(self, loss: Tensor) -> None:
        """One step's loss."""
        self.losses += loss.double() / self.steps_per_epoch

    def mean(self) -> Tensor:
        """Of the epoch that ends."""
        return self.losses

    @torch.no_grad()
    def close(self, mean: Tensor) -> None:
        """Ends an epoch, and judges it by its mean loss over all processes."""
        value, (best, since, unhalved, factor) = float(mean), self._values()
        if value < best - self.min_delta:
            best, since, unhalved = value, 0, 0
        else:
            since, unhalved = since + 1, unhalved + 1
        if self.halve_after and unhalved >= self.halve_after:
            factor, unhalved = factor / 2, 0
        self._known = (best, since, unhalved, factor)
        self.state.copy_(torch.tensor(self._known, dtype=torch.float64))
        self.losses.zero_()

    @property
    def factor(self) -> float:
        """What the rate is multiplied by."""
        return self._values()[3]

    @property
    def stopped(self) -> bool:
        """Whether training is over."""
        return self.stop_after > 0 and self._values()[1] >= self.stop_after

    def _values(self) -> tuple[float, ...]:
        if self._known is None:
            self._known = tuple(self.state.tolist())
        return self._known
