"""Orders of samples that come out the same on every machine and with every version of NumPy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dcorr_models.errors import DataError

__all__ = ["check_seed", "shuffled_order", "stratified_order"]

# NumPy keeps the streams of RandomState frozen for ever (NEP 19) and those of Generator not:
# a split has to survive an upgrade, or test images of an old run become training images.
_Random = np.random.RandomState


def check_seed(seed: int) -> None:
    """Refuse a seed that `shuffled_order` and `stratified_order` cannot take.

    Args:
        seed: From 0 to 2**32 - 1.

    Raises:
        DataError: If it is outside.
    """
    if not 0 <= seed < 2**32:
        raise DataError(f"seed must be from 0 to 2**32 - 1, got {seed}")


def shuffled_order(n: int, seed: int) -> npt.NDArray[np.int64]:
    """A permutation of `n` samples that depends on the seed alone.

    Args:
        n: The number of samples.
        seed: From 0 to 2**32 - 1.

    Returns:
        int64 array of shape (n,).

    Example:
        >>> shuffled_order(5, seed=0).tolist()
        [2, 0, 1, 3, 4]
    """
    return _Random(seed).permutation(n).astype(np.int64)


def stratified_order(labels: npt.ArrayLike, seed: int) -> npt.NDArray[np.int64]:
    """A permutation of which every stretch has the classes in their overall proportions.

    Member j of the n_c members of class c, in random order, gets the key (j + 1/2) / n_c; the
    samples are sorted by key, ties in random order. Splits cut from the order, one after the
    other, are stratified whatever their sizes: with equal classes every prefix holds each class
    equally often, give or take one.

    Args:
        labels: Integer class of each sample, shape (N,).
        seed: From 0 to 2**32 - 1.

    Returns:
        int64 array of shape (N,).

    Example:
        >>> labels = np.array([0, 0, 0, 1, 1, 1])
        >>> labels[stratified_order(labels, seed=0)].reshape(3, 2).sum(axis=1).tolist()
        [1, 1, 1]
    """
    labels = np.asarray(labels)
    random = _Random(seed)
    keys = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        keys[random.permutation(members)] = (np.arange(len(members)) + 0.5) / len(members)
    return np.lexsort((random.random_sample(len(labels)), keys)).astype(np.int64)
