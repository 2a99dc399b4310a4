"""Another data set of which training is not told all labels: for semi-supervised methods."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from dcorr_models.data.attribute_names import nearest
from dcorr_models.data.base import UNLABELLED, DataSource, Splits
from dcorr_models.data.splitting import check_seed, shuffled_order
from dcorr_models.data.views import relabelled
from dcorr_models.data.wrapped import WrappedSource
from dcorr_models.errors import DataError

__all__ = ["PartlyLabelled"]


class PartlyLabelled(WrappedSource):
    """A data set whose training images have labels in part: the others are of class -1.

    Of unknown classes no training image has a label, of the others some. Validation and test images
    keep theirs, and so do the training images that metrics learn from (`evaluation_splits`): what
    is hidden from the training is known to the measurement.

    Args:
        data: The data set, with one class an image.
        unknown_classes: Classes without labels, each by its name or, as an integer, its number.
        labelled: Of each other class, the share of the training images that keeps the label, above
            0 and up to 1.0; or an integer, so many images: `1.0` is all of them, `1` is one image.
        seed: Chooses these images, from 0 to 2**32 - 1.

    Raises:
        DataError: Attributes instead of classes, a share or number outside its range.

    Example:
        >>> from dcorr_models.data import BundledDigits
        >>> data = PartlyLabelled(BundledDigits(), unknown_classes=["8", "9"], labelled=10)
        >>> train, valid, test = data.splits()
        >>> (train.labels >= 0).sum().item(), (test.labels >= 0).sum().item()
        (80, 800)
    """

    def __init__(
        self,
        data: DataSource,
        unknown_classes: Sequence[str | int] = (),
        labelled: int | float = 1.0,
        seed: int = 0,
    ) -> None:
        if data.multilabel:
            raise DataError(
                f"{data.name} has attributes, and only classes can be unknown: take its classes"
            )
        share = isinstance(labelled, float)
        if not (0 < labelled <= 1 if share else labelled >= 1):
            raise DataError(
                "labelled must be a share above 0 and up to 1.0, or a whole number of images of "
                f"each class, got {labelled}"
            )
        check_seed(seed)
        super().__init__(data)
        self.unknown_classes = list(unknown_classes)
        self.labelled, self.seed = labelled, seed

    @property
    def name(self) -> str:  # type: ignore[override]  # follows the data set inside
        """The data set's, and that its labels are not all there."""
        return f"{self.data.name}, partly labelled"

    @cached_property
    def unknown(self) -> list[int]:
        """Numbers of the unknown classes.

        Raises:
            DataError: A class that does not exist, or no class left that is known.
        """
        names = list(self.label_names)
        found = sorted({_number(given, names) for given in self.unknown_classes})
        if len(found) == len(names):
            raise DataError(
                f"unknown_classes are all {len(names)} classes of {self.data.name}: leave one or "
                "more to learn from"
            )
        return found

    def splits(self) -> Splits:
        """The data set's splits, training labels hidden.

        Raises:
            DataError: As from the data set; an unknown class that it has not, or a class with fewer
                training images than are to be labelled.
        """
        parts = self.data.splits()
        labels = torch.full_like(parts.train.labels, UNLABELLED)
        for label, name in enumerate(self.label_names):
            if label in self.unknown:
                continue
            rows = (parts.train.labels == label).nonzero().flatten()
            kept = self._kept(rows, name)
            labels[kept] = label
        return parts._replace(train=relabelled(parts.train, labels))

    def evaluation_splits(self) -> Splits:
        """The data set's own splits: metrics know every label."""
        return self.data.evaluation_splits()

    def _kept(self, rows: Tensor, name: str) -> Tensor:
        if isinstance(self.labelled, float):
            # at least one: a class that is not unknown does not become so by rounding
            count = max(1, round(self.labelled * len(rows))) if len(rows) else 0
        else:
            count = self.labelled
        if count > len(rows):
            raise DataError(
                f"labelled asks for {count} images of each class, and class {name} of "
                f"{self.data.name} has {len(rows)} to train on: ask for fewer"
            )
        order = torch.from_numpy(shuffled_order(len(rows), self.seed))
        return rows[order[:count]]


def _number(given: str | int, names: list[str]) -> int:
    if isinstance(given, str):
        if given not in names:
            raise DataError(f"unknown_classes: no class {given!r}{nearest(given, names)}")
        return names.index(given)
    if not 0 <= given < len(names):
        raise DataError(
            f"unknown_classes: classes are numbered from 0 to {len(names) - 1}, got {given}"
        )
    return given
