"""The order of the training samples: a pure function of the seed and the step."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

__all__ = ["StepBatchSampler"]


class StepBatchSampler(Sampler[list[int]]):
    """Yields the batches of steps `start, start + 1, ..., stop - 1`, epoch after epoch.

    Each epoch is a permutation drawn from `(seed, epoch)`; an incomplete last batch is dropped.
    Nothing depends on what was drawn before, so a resumed run sees what the uninterrupted one
    sees. With several processes each takes every `world_size`-th sample of the *global* batch:
    the global batches are the same for any number of processes.

    Args:
        num_samples: size of the data set, at least `batch_size`.
        batch_size: samples of a step over all processes, divisible by `world_size`.
        seed: any integer.
        start: first step.
        stop: one past the last step.
        rank: this process.
        world_size: number of processes.

    Example:
        >>> [sorted(b) for b in StepBatchSampler(4, batch_size=4, seed=0, start=0, stop=2)]
        [[0, 1, 2, 3], [0, 1, 2, 3]]
    """

    def __init__(
        self,
        num_samples: int,
        *,
        batch_size: int,
        seed: int,
        start: int,
        stop: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not 0 < batch_size <= num_samples:
            raise ValueError(
                f"batch_size must lie between 1 and the {num_samples} samples, got {batch_size}"
            )
        if batch_size % world_size:
            raise ValueError(
                f"batch_size must be divisible by the number of processes ({world_size}), "
                f"got {batch_size}"
            )
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.start = start
        self.stop = stop
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        return max(0, self.stop - self.start)

    def __iter__(self) -> Iterator[list[int]]:
        steps_per_epoch = self.num_samples // self.batch_size
        epoch, order = -1, torch.empty(0, dtype=torch.int64)
        for step in range(self.start, self.stop):
            if step // steps_per_epoch != epoch:
                epoch = step // steps_per_epoch
                order = self._permutation(epoch)
            first = (step % steps_per_epoch) * self.batch_size
            batch = order[first : first + self.batch_size]
            yield batch[self.rank :: self.world_size].tolist()

    def _permutation(self, epoch: int) -> torch.Tensor:
        # A large odd multiplier keeps (seed, epoch) pairs apart: (1, 0) is not (0, 1).
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
        return torch.randperm(self.num_samples, generator=generator)
