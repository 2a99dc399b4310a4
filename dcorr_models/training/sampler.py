"""The order of the training samples: a pure function of the seed and the step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import cast

import torch
from torch import Tensor
from torch.utils.data import Sampler

__all__ = ["AnewAtEveryStep", "GroupedBatchSampler", "StepBatchSampler", "images_of_small_classes"]


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
            yield batch[self.rank :: self.world_size].flatten().tolist()

    def _permutation(self, epoch: int) -> Tensor:
        return torch.randperm(self.num_samples, generator=self._generator(epoch))

    def _generator(self, epoch: int) -> torch.Generator:
        # A large odd multiplier keeps (seed, epoch) pairs apart: (1, 0) is not (0, 1).
        return torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)


class AnewAtEveryStep(Sampler[list[int]]):
    """Another sampler's batches, each index as the number of a look at its image.

    Look k at image i of N has the number `i + k · N`. Step t takes look t + 1 and look 0 is left to
    metrics, so that what a data set draws by the number is a pure function of the step.

    Args:
        sampler: whose batches.
        num_samples: N, the size of the data set.
        start: the step of its first batch.

    Example:
        >>> list(AnewAtEveryStep([[2, 0], [1, 2]], 3, start=4))
        [[17, 15], [19, 20]]
    """

    def __init__(self, sampler: Iterable[list[int]], num_samples: int, *, start: int) -> None:
        self.sampler, self.num_samples, self.start = sampler, num_samples, start

    def __len__(self) -> int:
        return len(cast(Sized, self.sampler))

    def __iter__(self) -> Iterator[list[int]]:
        for look, indices in enumerate(self.sampler, start=self.start + 1):
            yield [index + look * self.num_samples for index in indices]


class GroupedBatchSampler(StepBatchSampler):
    """The same for batches of groups: `images_per_class` images of one class follow each other.

    In each epoch every class is shuffled and cut into groups, what is left over of a class is
    dropped, and all groups are shuffled. A class may have several groups in a batch. Each process
    takes whole groups, every `world_size`-th of the global batch.

    Args:
        labels: int64 (N,), 0 or more: the class of each image of the data set.
        images_per_class: images of a group.
        batch_size: images of a step over all processes, a multiple of `images_per_class`; the
            number of groups is divisible by `world_size`.
        seed: any integer.
        start: first step.
        stop: one past the last step.
        rank: this process.
        world_size: number of processes.

    Raises:
        TypeError: `labels` are no classes.
        ValueError: classes with fewer images than a group, or a batch that cannot be made.

    Example:
        >>> labels = torch.tensor([7, 3, 7, 3, 7, 3])
        >>> sampler = GroupedBatchSampler(
        ...     labels, images_per_class=3, batch_size=6, seed=0, start=0, stop=1
        ... )
        >>> [[sorted(batch[:3]), sorted(batch[3:])] for batch in sampler]
        [[[0, 2, 4], [1, 3, 5]]]
    """

    def __init__(
        self,
        labels: Tensor,
        *,
        images_per_class: int,
        batch_size: int,
        seed: int,
        start: int,
        stop: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        small = images_of_small_classes(labels, images_per_class)
        if small:
            found = ", ".join(f"{label} ({count})" for label, count in small.items())
            raise ValueError(
                f"images_per_class {images_per_class} needs so many images of every class, got "
                f"fewer of classes {found}"
            )
        groups = int((labels.bincount() // images_per_class).sum())
        if batch_size % (images_per_class * world_size):
            raise ValueError(
                f"batch_size must be a multiple of images_per_class ({images_per_class}) times "
                f"the number of processes ({world_size}), got {batch_size}"
            )
        if not 0 < batch_size <= groups * images_per_class:
            raise ValueError(
                f"batch_size must lie between 1 and the {groups * images_per_class} images in "
                f"whole groups of {images_per_class}, got {batch_size}"
            )
        super().__init__(
            groups,
            batch_size=batch_size // images_per_class,
            seed=seed,
            start=start,
            stop=stop,
            rank=rank,
            world_size=world_size,
        )
        self.labels, self.images_per_class = labels, images_per_class

    def _permutation(self, epoch: int) -> Tensor:  # (groups, images_per_class)
        generator = self._generator(epoch)
        order = torch.randperm(len(self.labels), generator=generator)
        by_class = self.labels[order].argsort(stable=True)
        counts = self.labels.bincount()
        place = torch.arange(len(order)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
        whole = (counts - counts % self.images_per_class).repeat_interleave(counts)
        groups = order[by_class[place < whole]].reshape(-1, self.images_per_class)
        return groups[torch.randperm(len(groups), generator=generator)]


def images_of_small_classes(labels: Tensor, images_per_class: int) -> dict[int, int]:
    """The number of images of each class that has some, but fewer than `images_per_class`.

    Args:
        labels: int64 (N,), 0 or more.
        images_per_class: 1 or more.

    Raises:
        TypeError: labels that are no classes.

    Example:
        >>> images_of_small_classes(torch.tensor([5, 5, 2]), 2)
        {2: 1}
    """
    if labels.ndim != 1 or labels.dtype != torch.int64:
        raise TypeError(
            "groups of one class need int64 labels of shape (N,), got "
            f"{labels.dtype} of shape {tuple(labels.shape)}"
        )
    counts = labels.bincount().tolist()
    return {label: n for label, n in enumerate(counts) if 0 < n < images_per_class}
