"""Labelled images beside unlabelled ones in every batch, and the sampler that a stage asks for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypedDict, Unpack

import torch
from torch import Tensor
from torch.utils.data import Sampler

from dcorr_models.data.base import is_unlabelled
from dcorr_models.training.sampler import GroupedBatchSampler, StepBatchSampler

__all__ = ["SideBySideBatchSampler", "batch_sampler"]

# Added to the seed for the order of the unlabelled images: it is not that of the labelled ones.
UNLABELLED_SEED = 7_919


class _Steps(TypedDict, total=False):
    """Which steps, and whose share of each: the same for every sampler."""

    seed: int
    start: int
    stop: int
    rank: int
    world_size: int


class SideBySideBatchSampler(Sampler[list[int]]):
    """The same with labelled images, followed by unlabelled ones: those of label -1.

    The labelled images come as from `StepBatchSampler` or `GroupedBatchSampler` over them alone,
    the unlabelled ones in epochs of their own. Each process has its share of both.

    Args:
        labels: int64 (N,): the class of each image of the data set, or -1.
        batch_size: labelled images of a step over all processes, divisible by `world_size`.
        unlabelled_batch_size: unlabelled images of a step over all processes, divisible by
            `world_size`; None: labelled images alone.
        images_per_class: labelled images come in groups of one class; None: in any order.
        steps: `seed`, `start`, `stop`, `rank`, `world_size`, as in `StepBatchSampler`.

    Raises:
        TypeError: `labels` are no classes.
        ValueError: fewer labelled or unlabelled images than a batch takes, sizes that do not
            divide.

    Example:
        >>> labels = torch.tensor([0, -1, 1, -1, 0, -1])
        >>> sampler = SideBySideBatchSampler(
        ...     labels, batch_size=3, unlabelled_batch_size=2, seed=0, start=0, stop=2
        ... )
        >>> [labels[batch].clamp(max=0).tolist() for batch in sampler]
        [[0, 0, 0, -1, -1], [0, 0, 0, -1, -1]]
    """

    def __init__(
        self,
        labels: Tensor,
        *,
        batch_size: int,
        unlabelled_batch_size: int | None,
        images_per_class: int | None = None,
        **steps: Unpack[_Steps],
    ) -> None:
        if labels.ndim != 1 or labels.dtype != torch.int64:
            raise TypeError(
                "labelled and unlabelled images are told apart by int64 labels of shape (N,), got "
                f"{labels.dtype} of shape {tuple(labels.shape)}"
            )
        missing = is_unlabelled(labels)
        known = (~missing).nonzero().flatten()
        if not 0 < batch_size <= len(known):
            raise ValueError(
                f"batch_size must lie between 1 and the {len(known)} labelled images of "
                f"{len(labels)}, got {batch_size}"
            )
        first: StepBatchSampler
        if images_per_class is None:
            first = StepBatchSampler(len(known), batch_size=batch_size, **steps)
        else:
            first = GroupedBatchSampler(
                labels[known], images_per_class=images_per_class, batch_size=batch_size, **steps
            )
        self.parts = [(known, first)]
        if unlabelled_batch_size is None:
            return
        others = missing.nonzero().flatten()
        if not 0 < unlabelled_batch_size <= len(others):
            raise ValueError(
                f"unlabelled_batch_size must lie between 1 and the {len(others)} images without "
                f"a label (-1), got {unlabelled_batch_size}"
            )
        steps["seed"] += UNLABELLED_SEED
        second = StepBatchSampler(len(others), batch_size=unlabelled_batch_size, **steps)
        self.parts.append((others, second))

    def __len__(self) -> int:
        return len(self.parts[0][1])

    def __iter__(self) -> Iterator[list[int]]:
        for places in zip(*(sampler for _, sampler in self.parts), strict=True):
            chosen = [
                indices[place] for (indices, _), place in zip(self.parts, places, strict=True)
            ]
            yield torch.cat(chosen).tolist()


def batch_sampler(
    num_samples: int,
    labels: Tensor | None,
    *,
    batch_size: int,
    images_per_class: int | None = None,
    unlabelled_batch_size: int | None = None,
    **steps: Unpack[_Steps],
) -> Sampler[list[int]]:
    """The sampler of a stage: images in any order, in groups, labelled beside unlabelled ones.

    Args:
        num_samples: size of the data set.
        labels: of its images, where it has some; images of label -1 come as unlabelled ones alone.
        batch_size: labelled images of a step over all processes.
        images_per_class: these come in groups of one class; None: in any order.
        unlabelled_batch_size: unlabelled images that follow them; None: none do.
        steps: `seed`, `start`, `stop`, `rank`, `world_size`, as in `StepBatchSampler`.

    Raises:
        TypeError: `labels` are no classes, where the stage chooses by them.
        ValueError: a batch that cannot be made.

    Example:
        >>> type(batch_sampler(4, None, batch_size=2, seed=0, start=0, stop=1)).__name__
        'StepBatchSampler'
    """
    by_class = labels is not None and (unlabelled_batch_size or bool(is_unlabelled(labels).any()))
    if labels is not None and by_class:
        return SideBySideBatchSampler(
            labels,
            batch_size=batch_size,
            unlabelled_batch_size=unlabelled_batch_size,
            images_per_class=images_per_class,
            **steps,
        )
    if labels is None or images_per_class is None:
        return StepBatchSampler(num_samples, batch_size=batch_size, **steps)
    return GroupedBatchSampler(
        labels, images_per_class=images_per_class, batch_size=batch_size, **steps
    )
