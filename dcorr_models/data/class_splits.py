"""Splits of data with classes: held-out images of all classes, or classes held out as a whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dcorr_models.data.attribute_names import nearest
from dcorr_models.data.image_files import a_few
from dcorr_models.data.splitting import check_seed, shuffled_order, stratified_order
from dcorr_models.errors import DataError

__all__ = ["HeldOut", "check_shares", "class_splits", "held_out_classes", "require_two_images"]

HeldOut = int | list[str]
"""How many classes test, drawn at random, or which, by their names."""

_Rows = npt.NDArray[np.int64]


def class_splits(
    labels: npt.ArrayLike,
    held_out: npt.ArrayLike,
    *,
    valid: float,
    test: float,
    seed: int,
) -> list[_Rows]:
    """The rows that train, validate and test.

    Without classes that are held out, shares of the images of each class validate and test. With
    them all of their images test and none trains; of the other classes a share validates.

    Args:
        labels: Class of each image, int64 of shape (N,).
        held_out: The classes that test, see `held_out_classes`; none if empty.
        valid: Share of the training classes' images that validates.
        test: Share of the images that tests; without meaning where whole classes test.
        seed: From 0 to 2**32 - 1.

    Returns:
        Three int64 arrays of rows, in random order.

    Example:
        >>> labels = [0, 0, 0, 0, 1, 1, 1, 1]
        >>> rows = class_splits(labels, [], valid=0, test=0.25, seed=0)
        >>> [len(part) for part in rows]
        [6, 0, 2]
        >>> rows = class_splits(labels, [0], valid=0.25, test=0, seed=0)
        >>> [len(part) for part in rows], sorted(rows[2].tolist())
        ([3, 1, 4], [0, 1, 2, 3])
    """
    labels = np.asarray(labels, dtype=np.int64)
    whole = np.isin(labels, np.asarray(held_out, dtype=np.int64))
    rest = np.flatnonzero(~whole)
    rest = rest[stratified_order(labels[rest], seed)]
    testing = 0 if whole.any() else int(test * len(rest) + 0.5)
    validating = int(valid * len(rest) + 0.5)
    tests, validates, trains = np.split(rest, [testing, testing + validating])
    if whole.any():
        tests = np.flatnonzero(whole)[shuffled_order(int(whole.sum()), seed)]
    return [trains, validates, tests]


def held_out_classes(test_classes: HeldOut, names: Sequence[str], seed: int) -> _Rows:
    """The numbers of the classes that test as a whole.

    Args:
        test_classes: How many, drawn at random, or their names; 0 or an empty list for none.
        names: Name of each class.
        seed: From 0 to 2**32 - 1.

    Returns:
        int64 array.

    Raises:
        DataError: If a class has a name that does not exist, or no class is left to train on.

    Example:
        >>> held_out_classes(["c", "a"], "abc", seed=0).tolist()
        [2, 0]
    """
    if isinstance(test_classes, int):
        chosen, count = shuffled_order(len(names), seed)[:test_classes], test_classes
    else:
        numbers = {name: number for number, name in enumerate(names)}
        for name in test_classes:
            if name not in numbers:
                raise DataError(f"test_classes: no class {name!r}{nearest(name, names)}")
        chosen = np.array([numbers[name] for name in dict.fromkeys(test_classes)], np.int64)
        count = len(chosen)
    if count >= len(names):
        raise DataError(
            f"test_classes asks for {count} of {len(names)} classes: leave one or more to train on"
        )
    return chosen


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
            f"{place}: classes with a single training image: {a_few(single)} ({len(single)} in "
            f"all), and a class code needs two or more; {way_out}"
        )
