"""Splits of data with classes: held-out images of all classes, or classes held out as a whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dcorr_models.data.attribute_names import nearest
from dcorr_models.data.image_files import a_few
from dcorr_models.data.splitting import check_seed, shuffled_order, stratified_order
from dcorr_models.errors import DataError

__all__ = ["HeldOut", "check_shares", "class_splits", "require_two_images"]

HeldOut = int | list[str]
"""How many classes test, drawn at random, or which, by their names."""

_Rows = npt.NDArray[np.int64]


def class_splits(
    labels: npt.ArrayLike,
    names: Sequence[str],
    *,
    valid: float,
    test: float,
    test_classes: HeldOut,
    seed: int,
) -> list[_Rows]:
    """The rows that train, validate and test.

    Without test classes, shares of the images of each class validate and test. With test classes
    all of their images test and none trains; of the other classes a share validates.

    Args:
        labels: Class of each image, int64 of shape (N,).
        names: Name of each class.
        valid: Share of the training classes' images that validates.
        test: Share of the images that tests; without meaning where whole classes test.
        test_classes: How many classes test, or their names; 0 or an empty list for none.
        seed: From 0 to 2**32 - 1.

    Returns:
        Three int64 arrays of rows, in random order.

    Raises:
        DataError: If a class has a name that does not exist, or no class is left to train on.

    Example:
        >>> labels = [0, 0, 0, 0, 1, 1, 1, 1]
        >>> rows = class_splits(labels, "ab", valid=0, test=0.25, test_classes=0, seed=0)
        >>> [len(part) for part in rows]
        [6, 0, 2]
        >>> rows = class_splits(labels, "ab", valid=0.25, test=0, test_classes=["a"], seed=0)
        >>> [len(part) for part in rows], sorted(rows[2].tolist())
        ([3, 1, 4], [0, 1, 2, 3])
    """
    labels = np.asarray(labels, dtype=np.int64)
    held_out = np.isin(labels, _numbers(test_classes, names, seed))
    rest = np.flatnonzero(~held_out)
    rest = rest[stratified_order(labels[rest], seed)]
    validating = int(valid * len(rest) + 0.5)
    if held_out.any():
        whole = np.flatnonzero(held_out)
        return [
            rest[validating:],
            rest[:validating],
            whole[shuffled_order(len(whole), seed)],
        ]
    testing = int(test * len(rest) + 0.5)
    return [
        rest[testing + validating :],
        rest[testing : testing + validating],
        rest[:testing],
    ]


def check_shares(valid: float, test: float, test_classes: HeldOut, seed: int) -> None:
    """Refuse what `class_splits` cannot take, before any file is read.

    Args:
        valid: Share that validates.
        test: Share that tests.
        test_classes: How many classes test, or their names.
        seed: Of the split.

    Raises:
        DataError: If a share, the number of classes or the seed is outside its range.
    """
    if not (valid >= 0 and test >= 0 and valid + test < 1):
        raise DataError(
            "valid and test must be shares that leave something to train on, "
            f"got {valid} and {test}"
        )
    if isinstance(test_classes, int) and test_classes < 0:
        raise DataError(f"test_classes must be 0 or more, got {test_classes}")
    check_seed(seed)


def require_two_images(
    labels: npt.ArrayLike, names: Sequence[str], *, place: str, way_out: str
) -> None:
    """Refuse classes with a single training image.

    Nothing tells what such an image shares with its class from what is its own.

    Args:
        labels: Classes of the training images.
        names: Name of each class.
        place: Where the images come from, for the message.
        way_out: What can be done about it.

    Raises:
        DataError: If there are such classes: how many, and the first of them.
    """
    found, counts = np.unique(np.asarray(labels), return_counts=True)
    single = [names[label] for label in found[counts == 1]]
    if single:
        raise DataError(
            f"{place}: {len(single)} classes have one training image ({a_few(single)}), and a "
            f"class code needs two or more; {way_out}"
        )


def _numbers(test_classes: HeldOut, names: Sequence[str], seed: int) -> _Rows:
    if isinstance(test_classes, int):
        chosen = shuffled_order(len(names), seed)[:test_classes]
        count = test_classes
    else:
        for name in test_classes:
            if name not in names:
                raise DataError(f"test_classes: no class {name!r}{nearest(name, names)}")
        chosen = np.array([names.index(name) for name in dict.fromkeys(test_classes)], np.int64)
        count = len(chosen)
    if count >= len(names):
        raise DataError(
            f"test_classes asks for {count} of {len(names)} classes: leave one or more to train on"
        )
    return chosen
