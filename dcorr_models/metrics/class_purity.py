"""Do codes fall into clusters of one class each? K-means and nearest neighbours answer."""

from __future__ import annotations

import warnings
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dcorr_models.data.base import require_labels
from dcorr_models.metrics.probes import as_array, check_codes

__all__ = ["ClassPurity", "class_purity"]

_STARTS = 10
_SHUFFLES = 10


class ClassPurity(TypedDict):
    """What `class_purity` returns."""

    clusters: float
    clusters_shuffled: float
    neighbours: float
    neighbours_shuffled: float
    k: int
    classes: int
    samples: int
    dimensions: int
    seed: int


def class_purity(
    codes: Tensor, labels: Tensor, *, neighbours: int = 10, seed: int = 0
) -> ClassPurity:
    r"""How pure clusters and neighbourhoods of codes are in their class, without any training.

    - `clusters`: k-means with as many clusters as there are classes (k-means++, the best of ten
      starts) finds clusters $A_1, \dots, A_K$ without the labels; the purity is
      $\frac{1}{N} \sum_k \max_c \lvert A_k \cap C_c \rvert$, the share of codes whose class is the
      most frequent one of their cluster. It asks for round, separate classes.
    - `neighbours`: the mean share of a code's k nearest other codes that have its class. It asks
      for no shape.

    A probe tells whether the class can be read from a code; this tells whether the code is
    organised by it. Codes are taken as they come, in Euclidean distance. Chance depends on the
    number of classes and of codes: `..._shuffled` is the mean over ten shuffles of the labels.

    Args:
        codes: Float (N, P), such as the codes z_s of test images.
        labels: int64 (N,), the class of each, at least two classes.
        neighbours: k, from 1 to N - 1.
        seed: Seed of k-means and of the shuffles.

    Returns:
        A dict of shares from 0 to 1, 1 being pure, their floors, and the sizes.

    Raises:
        ValueError: If shapes do not fit, a code is NaN or infinite, there is one class alone, or
            `neighbours` is not from 1 to N - 1.
        TypeError: If `codes` are not floating point or `labels` not int64.

    Reference:
        Manning, Raghavan and Schütze, Introduction to information retrieval, 2008, equation 182.

    Example:
        >>> labels = torch.arange(60) % 3
        >>> result = class_purity(10.0 * labels[:, None].double(), labels)
        >>> result["clusters"], result["neighbours"]
        (1.0, 1.0)
    """
    from sklearn.cluster import KMeans
    from sklearn.neighbors import NearestNeighbors

    _check(codes, labels, neighbours)
    x, (classes, y) = as_array(codes), np.unique(as_array(labels), return_inverse=True)
    with warnings.catch_warnings():
        # sklearn warns of fewer distinct codes than clusters: the purity says it
        warnings.filterwarnings("ignore", module="sklearn")
        found = KMeans(len(classes), n_init=_STARTS, random_state=seed).fit(x).labels_
    near = NearestNeighbors(n_neighbors=neighbours).fit(x).kneighbors(return_distance=False)
    generator = np.random.default_rng(seed)
    shuffled = [generator.permutation(y) for _ in range(_SHUFFLES)]
    return {
        "clusters": _purity(found, y),
        "clusters_shuffled": float(np.mean([_purity(found, other) for other in shuffled])),
        "neighbours": _agreement(near, y),
        "neighbours_shuffled": float(np.mean([_agreement(near, other) for other in shuffled])),
        "k": neighbours,
        "classes": len(classes),
        "samples": len(x),
        "dimensions": x.shape[1],
        "seed": seed,
    }


def _purity(clusters: npt.NDArray[np.int32], labels: npt.NDArray[np.int64]) -> float:
    counts = np.zeros((clusters.max() + 1, labels.max() + 1), dtype=np.int64)
    np.add.at(counts, (clusters, labels), 1)
    return float(counts.max(axis=1).sum() / len(labels))


def _agreement(near: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]) -> float:
    return float((labels[near] == labels[:, None]).mean())


def _check(codes: Tensor, labels: Tensor, neighbours: int) -> None:
    check_codes("codes", codes)
    if labels.dtype != torch.int64:
        raise TypeError(f"labels must be int64, got {labels.dtype}")
    if labels.shape != codes.shape[:1]:
        raise ValueError(
            f"labels must have shape ({len(codes)},) like the codes, got {tuple(labels.shape)}"
        )
    require_labels("codes", labels)
    if len(torch.unique(labels)) < 2:
        raise ValueError("labels need at least two classes, got one")
    if not 1 <= neighbours < len(codes):
        raise ValueError(
            f"neighbours must lie between 1 and {len(codes) - 1}, one less than the codes, "
            f"got {neighbours}"
        )
