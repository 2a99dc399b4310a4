"""The contract of a data set: what a source promises, and the batches that come out of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from dcorr_models.errors import DataError
from dcorr_models.settings import Configurable

__all__ = [
    "UNLABELLED",
    "DataSource",
    "LabelledImages",
    "Splits",
    "collate_batch",
    "is_unlabelled",
    "known_classes",
    "require_labels",
]

UNLABELLED = -1
"""The class of an image whose class is not told. Only training splits hold such images."""


class LabelledImages(Dataset[dict[str, Tensor]]):
    """Images kept as bytes in memory, handed out as floats, whole batches at a time.

    Numbers that bytes cannot hold, such as points of a plane as images of shape (2, 1, 1), are kept
    as floats and handed out as they are.

    The images stay uint8, a quarter of their size as floats, and become floats batch by batch:
    `byte / 255 * (high - low) + low`. PyTorch's `DataLoader` asks a data set that has
    `__getitems__` for a whole batch in one call; with `collate_fn=collate_batch` nothing loops
    over samples in Python. A data set that draws its images at access time overrides
    `__getitems__` alone: the single sample is a batch of one.

    Args:
        images: uint8 tensor of shape (N, C, H, W); a tensor over a memory map serves as well. Or
            float32.
        labels: int64 of shape (N,), a class each, or -1 (`UNLABELLED`) where it is not told; or
            float32 of shape (N, A), the attributes.
        value_range: Lowest and highest value of the float images; of float32 ones, what metrics
            measure by and pictures are drawn in: nothing is cut off.
        content: int64 of shape (N,), where it is known: which of the data set's contents an image
            shows. Images of one content differ by their classes alone. Metrics alone read it.
        targets: float32 of shape (N, T), where they are known: numbers that a code may be asked
            for, such as landmarks or the factors of a rendering. Metrics alone read them.
        factors: int64 of shape (N, F), where they are known: the level of each ground-truth factor,
            from 0. Metrics of disentanglement alone read them.

    Raises:
        TypeError: If `images` is neither uint8 nor float32, `labels` neither int64 nor float32,
            `content` or `factors` not int64, or `targets` not float32.
        ValueError: If the shapes do not fit each other, or `value_range` is empty.

    Example:
        >>> images = torch.full((3, 1, 2, 2), 255, dtype=torch.uint8)
        >>> data = LabelledImages(images, torch.tensor([4, 5, 6]))
        >>> batch = data.__getitems__([2, 0])
        >>> batch["image"].shape, batch["label"].tolist(), batch["index"].tolist()
        (torch.Size([2, 1, 2, 2]), [6, 4], [2, 0])
        >>> data[1]["image"].max().item(), data[1]["label"].item()
        (1.0, 5)
    """

    redrawn: bool = False
    """Whether training sees each image anew at every step: see `RedrawnImages`."""

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        value_range: tuple[float, float] = (0.0, 1.0),
        content: Tensor | None = None,
        targets: Tensor | None = None,
        factors: Tensor | None = None,
    ) -> None:
        _check_images_and_labels(images, labels)
        _check_known("content", content, torch.int64, (len(images),))
        _check_known("targets", targets, torch.float32, (len(images), "T"))
        _check_known("factors", factors, torch.int64, (len(images), "F"))
        low, high = value_range
        if not low < high:
            raise ValueError(f"value_range needs low < high, got {value_range}")
        self.images = images
        self.labels = labels
        self.content = content
        self.targets = targets
        self.factors = factors
        self.value_range = (float(low), float(high))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One sample: `image` float32 (C, H, W), `label`, and `index` as an int64 scalar."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is outside a data set of {len(self)} images")
        batch = self.__getitems__([index % len(self)])
        return {key: rows[0] for key, rows in batch.items()}

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """A batch in the order of `indices`: `image` (B, C, H, W), `label` and `index` (B,)."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        return {
            "image": self._to_float(self.images[index]),
            "label": self.labels[index],
            "index": index,
        }

    def tensors(self, limit: int | None = None) -> tuple[Tensor, Tensor]:
        """The whole split at once, for metrics and pictures.

        Args:
            limit: How many images to take, from the first on; all of them by default.

        Returns:
            The float32 images (N, C, H, W) in `value_range`, and their labels.

        Raises:
            ValueError: If `limit` is negative.
        """
        if limit is not None and limit < 0:
            raise ValueError(f"limit must not be negative, got {limit}")
        count = len(self) if limit is None else min(limit, len(self))
        batch = self.__getitems__(range(count))
        return batch["image"], batch["label"]

    def _to_float(self, images: Tensor) -> Tensor:
        if images.is_floating_point():
            return images
        low, high = self.value_range
        floats = images.to(torch.float32).div_(255.0)
        return floats if (low, high) == (0.0, 1.0) else floats.mul_(high - low).add_(low)


class Splits(NamedTuple):
    """The three disjoint parts of a data set."""

    train: LabelledImages
    valid: LabelledImages
    test: LabelledImages


class DataSource(Configurable, ABC):
    """Where images and labels come from; one subclass a data set.

    The constructor's typed and documented arguments are the configuration and the command line.
    Constructing reads nothing from disk; `splits` does, and raises `DataError` where it cannot.
    """

    name: ClassVar[str]
    """What reports call the data set."""
    image_shape: tuple[int, int, int]
    """Channels, height, width."""
    label_names: tuple[str, ...]
    """A name for each class, or for each attribute."""
    multilabel: bool = False
    """False: one class an image, int64 (N,). True: attributes, float32 (N, A)."""
    value_range: tuple[float, float] = (0.0, 1.0)
    """Lowest and highest value of the float images."""
    factor_names: tuple[str, ...] = ()
    """A name for each column of the splits' `factors`; every one of them varies."""
    factor_sizes: tuple[int, ...] = ()
    """How many levels each factor has, two or more."""

    @abstractmethod
    def splits(self) -> Splits:
        """Read the data and return its parts, always the same ones for the same arguments."""

    def evaluation_splits(self) -> Splits:
        """What metrics measure and pictures show: `splits`, with labels that training is not told.

        The same images in the same order; this default returns `splits`.
        """
        return self.splits()

    def prepare(self, *, mirror: str | None = None, say: Callable[[str], None] = print) -> None:
        """Download what can be downloaded; this default says that there is nothing to do.

        Args:
            mirror: Address of the folder to download from, in place of the public ones.
            say: Takes each line of progress.

        Raises:
            DataError: If something cannot be fetched, or a mirror is named for nothing.
        """
        if mirror is not None:
            raise DataError(f"{self.name} downloads nothing; leave the mirror {mirror} out")
        say(f"{self.name}: nothing to download")

    def check_files(self, *, say: Callable[[str], None] = print) -> None:
        """Look at all files and name those that are broken; this default reads the splits.

        Args:
            say: Takes each line of progress.

        Raises:
            DataError: If a file is missing or broken.
        """
        parts = self.splits()
        say(f"{self.name}: read {' + '.join(str(len(part)) for part in parts)} images")


def collate_batch(batch: dict[str, Tensor] | list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The `collate_fn` for these data sets: a batch that is one already passes through.

    Args:
        batch: What `__getitems__` returned, or a list of single samples, which are stacked.

    Returns:
        The batch, one tensor a key.

    Example:
        >>> collate_batch([{"label": torch.tensor(1)}, {"label": torch.tensor(2)}])
        {'label': tensor([1, 2])}
    """
    if isinstance(batch, dict):
        return batch
    return {key: torch.stack([sample[key] for sample in batch]) for key in batch[0]}


def is_unlabelled(labels: Tensor) -> Tensor:
    """Which images have no label.

    Args:
        labels: those of a data set; attributes are always known.

    Returns:
        A bool tensor of shape (N,).

    Example:
        >>> is_unlabelled(torch.tensor([3, -1])).tolist()
        [False, True]
    """
    if labels.ndim != 1 or labels.is_floating_point():
        return torch.zeros(len(labels), dtype=torch.bool, device=labels.device)
    return labels == UNLABELLED


def known_classes(labels: Tensor) -> list[int]:
    """The classes that images have, in order; no label is none.

    Args:
        labels: int64 of shape (N,).

    Example:
        >>> known_classes(torch.tensor([3, -1, 0, 3]))
        [0, 3]
    """
    classes: list[int] = torch.unique(labels[~is_unlabelled(labels)]).tolist()
    return classes


def require_labels(name: str, labels: Tensor) -> None:
    """Refuses images without a label, where their classes are read.

    Args:
        name: what the images are called.
        labels: theirs.

    Raises:
        DataError: some have none.
    """
    missing = int(is_unlabelled(labels).sum())
    if missing:
        raise DataError(
            f"{missing} of {len(labels)} of {name} have no label ({UNLABELLED}), and their "
            "classes are asked for: leave them out (dcorr_models.data.views.labelled_part)"
        )


def _check_images_and_labels(images: Tensor, labels: Tensor) -> None:
    if images.dtype not in (torch.uint8, torch.float32):
        raise TypeError(f"images must be uint8, or float32 as they are, got {images.dtype}")
    if images.ndim != 4:
        raise ValueError(f"images must have shape (N, C, H, W), got {tuple(images.shape)}")
    ranks = {torch.int64: 1, torch.float32: 2}
    if labels.dtype not in ranks:
        raise TypeError(f"labels must be int64 or float32, got {labels.dtype}")
    if labels.ndim != ranks[labels.dtype]:
        raise ValueError(
            "labels must have shape (N,) as int64 or (N, A) as float32, "
            f"got {tuple(labels.shape)} as {labels.dtype}"
        )
    if not labels.is_floating_point() and len(labels) and labels.min() < UNLABELLED:
        raise ValueError(
            f"labels must be 0 or more, or {UNLABELLED} for no label, got {int(labels.min())}"
        )
    if len(images) != len(labels):
        raise ValueError(
            f"images and labels need the same length, got {len(images)} and {len(labels)}"
        )


def _check_known(
    name: str, values: Tensor | None, dtype: torch.dtype, shape: tuple[int | str, ...]
) -> None:
    """What a data set may know of its images besides the labels."""
    if values is None:
        return
    if values.dtype != dtype:
        raise TypeError(f"{name} must be {dtype}, got {values.dtype}")
    if values.ndim != len(shape) or values.shape[0] != shape[0]:
        wanted = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
        raise ValueError(f"{name} must have shape ({wanted}), got {tuple(values.shape)}")
