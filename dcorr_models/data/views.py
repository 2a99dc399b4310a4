"""A split seen otherwise: with other labels, or some of its images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dcorr_models.data.base import LabelledImages, is_unlabelled

__all__ = ["labelled_part", "relabelled", "some_rows"]


class _View(LabelledImages):
    """Images that a split draws at access time, in another order or with other labels."""

    def __init__(self, split: LabelledImages, rows: Tensor, labels: Tensor) -> None:
        # sizes and no bytes: `split` draws the images when they are asked for
        nothing = torch.empty(
            len(rows), *split.images.shape[1:], dtype=split.images.dtype, device="meta"
        )
        super().__init__(
            nothing,
            labels,
            value_range=split.value_range,
            content=_rows_of(split.content, rows),
            targets=_rows_of(split.targets, rows),
            factors=_rows_of(split.factors, rows),
        )
        self._split, self._rows = split, rows
        self.redrawn = split.redrawn

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        numbers = torch.as_tensor(indices, dtype=torch.int64)
        # look k at image i has the number i + k N, see `RedrawnImages`
        look = numbers // len(self) if self.redrawn else torch.zeros_like(numbers)
        index = numbers - look * len(self)
        batch = self._split.__getitems__((self._rows[index] + look * len(self._split)).tolist())
        return {**batch, "label": self.labels[index], "index": index}


def relabelled(split: LabelledImages, labels: Tensor) -> LabelledImages:
    """The images of a split, drawn as the split itself draws them, with other labels.

    Args:
        split: where the images and all else that is known of them come from.
        labels: one row an image, as in `LabelledImages`.

    Returns:
        Another `LabelledImages`; images in memory are shared.
    """
    if type(split).__getitems__ is not LabelledImages.__getitems__:
        return _View(split, torch.arange(len(split)), labels)
    return LabelledImages(
        split.images,
        labels,
        value_range=split.value_range,
        content=split.content,
        targets=split.targets,
        factors=split.factors,
    )


def some_rows(split: LabelledImages, rows: Tensor) -> LabelledImages:
    """Some images of a split, with all that is known of them.

    Args:
        split: where they come from.
        rows: int64 (M,), which ones, in the order wanted.

    Returns:
        Another `LabelledImages` of M images; images in memory are copied.

    Example:
        >>> split = LabelledImages(torch.zeros(3, 1, 1, 1, dtype=torch.uint8), torch.arange(3))
        >>> some_rows(split, torch.tensor([2, 0])).labels.tolist()
        [2, 0]
    """
    if type(split).__getitems__ is not LabelledImages.__getitems__:
        return _View(split, rows, split.labels[rows])
    return LabelledImages(
        split.images[rows],
        split.labels[rows],
        value_range=split.value_range,
        content=_rows_of(split.content, rows),
        targets=_rows_of(split.targets, rows),
        factors=_rows_of(split.factors, rows),
    )


def labelled_part(split: LabelledImages) -> LabelledImages:
    """The images that have a label; the split itself where all have one.

    Example:
        >>> images = torch.zeros(3, 1, 1, 1, dtype=torch.uint8)
        >>> labelled_part(LabelledImages(images, torch.tensor([1, -1, 0]))).labels.tolist()
        [1, 0]
    """
    missing = is_unlabelled(split.labels)
    return some_rows(split, (~missing).nonzero().flatten()) if bool(missing.any()) else split


def _rows_of(known: Tensor | None, rows: Tensor) -> Tensor | None:
    return None if known is None else known[rows]
