"""How much of the class a code still tells: probes that read it, and distance correlation."""

from __future__ import annotations

from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dcorr_models.metrics.probes import (
    MLP_WIDTH,
    as_array,
    check_codes,
    dcor_with_floor,
    fit,
    linear_probe,
    mlp_probe,
    standardise,
)

__all__ = ["MLP_WIDTH", "Leakage", "leakage"]


class Leakage(TypedDict):
    """What `leakage` measures; serialises to JSON as it is."""

    linear_probe: float
    mlp_probe: float
    chance: float
    dcor: float | None
    dcor_shuffled: float | None
    train_samples: int
    test_samples: int
    dimensions: int
    classes: int
    mlp_width: int
    seed: int


@torch.no_grad()
def leakage(
    train_codes: Tensor,
    train_labels: Tensor,
    test_codes: Tensor,
    test_labels: Tensor,
    *,
    label_codes: Tensor | None = None,
    seed: int = 0,
) -> Leakage:
    """Accuracy of two probes that read the class from the code, and the code's dcor with ŷ.

    Protocol. Codes are standardised with the mean and standard deviation of the training codes
    (a constant coordinate becomes 0). Two classifiers are trained on the training codes alone
    and scored on the test codes:

    - the linear probe: multinomial logistic regression, L2 penalty with C = 1, L-BFGS run to
      convergence (at most 1,000 iterations);
    - the MLP probe: one hidden layer of 64 ReLU units, cross-entropy, Adam with rate 1e-3,
      batches of 200, L2 penalty 1e-4, 100 epochs.

    Chance is the share of the most frequent class of the test split: a probe that reads nothing
    reaches about this. `dcor` is the distance correlation of `label_codes` and the test codes,
    the biased V-statistic, in float64, on the codes as they come, not standardised. On a finite
    sample it is above 0 for independent codes as well: `dcor_shuffled` says how much, the mean
    over ten random pairings of the same label codes and test codes.

    Args:
        train_codes: Float tensor (N, P), the code z of each training image.
        train_labels: int64 (N,), classes counted from 0.
        test_codes: Float tensor (M, P) of held-out images.
        test_labels: int64 (M,).
        label_codes: Float tensor (M, Q), the label code ŷ of the held-out images; without it
            both dcor are None.
        seed: Seed of the MLP's initial weights and order of samples, and of the shuffles.

    Returns:
        A dict: the accuracies `linear_probe` and `mlp_probe` with their floor `chance`, shares
        from 0 to 1, and `dcor` with its floor `dcor_shuffled`, from 0 to 1; lower is less
        leakage. Beside them the sizes, `mlp_width` and `seed`.

    Raises:
        ValueError: If shapes do not fit, a code is NaN or infinite, or the training labels hold
            fewer than two classes.
        TypeError: If codes are not floating point or labels not int64.

    Reference:
        dcor: Székely, Rizzo and Bakirov, Measuring and testing dependence by correlation of
        distances, 2007, definition 5.

    Example:
        >>> labels = torch.arange(200) % 2
        >>> result = leakage(labels[:, None].double(), labels, labels[:, None].double(), labels)
        >>> result["linear_probe"], result["mlp_probe"], result["chance"]
        (1.0, 1.0, 0.5)
    """
    _check(train_codes, train_labels, test_codes, test_labels, label_codes)
    train, test = standardise(as_array(train_codes), as_array(test_codes))
    train_y, test_y = as_array(train_labels), as_array(test_labels)
    dependence = dcor_with_floor(label_codes, test_codes, seed)
    return {
        "linear_probe": _score(linear_probe(), train, train_y, test, test_y),
        "mlp_probe": _score(mlp_probe(seed), train, train_y, test, test_y),
        "chance": float(np.bincount(test_y).max() / len(test_y)),
        "dcor": dependence[0],
        "dcor_shuffled": dependence[1],
        "train_samples": len(train_y),
        "test_samples": len(test_y),
        "dimensions": train.shape[1],
        "classes": len(np.unique(train_y)),
        "mlp_width": MLP_WIDTH,
        "seed": seed,
    }


def _score(
    probe: Any,
    train: npt.NDArray[np.float64],
    train_labels: npt.NDArray[np.int64],
    test: npt.NDArray[np.float64],
    test_labels: npt.NDArray[np.int64],
) -> float:
    predicted = fit(probe, train, train_labels).predict(test)
    return float((predicted == test_labels).mean())


def _check(
    train_codes: Tensor,
    train_labels: Tensor,
    test_codes: Tensor,
    test_labels: Tensor,
    label_codes: Tensor | None,
) -> None:
    check_codes("train_codes", train_codes)
    check_codes("test_codes", test_codes)
    if train_codes.shape[1] != test_codes.shape[1]:
        raise ValueError(
            "train_codes and test_codes need the same number of dimensions, "
            f"got {train_codes.shape[1]} and {test_codes.shape[1]}"
        )
    _check_labels("train_labels", train_labels, len(train_codes))
    _check_labels("test_labels", test_labels, len(test_codes))
    if len(torch.unique(train_labels)) < 2:
        raise ValueError("train_labels need at least two classes, got one")
    if label_codes is not None:
        check_codes("label_codes", label_codes)
        if len(label_codes) != len(test_codes):
            raise ValueError(
                "label_codes and test_codes need the same number of samples, "
                f"got {len(label_codes)} and {len(test_codes)}"
            )


def _check_labels(name: str, labels: Tensor, n: int) -> None:
    if labels.dtype != torch.int64:
        raise TypeError(f"{name} must be int64, got {labels.dtype}")
    if labels.shape != (n,):
        raise ValueError(
            f"{name} must have shape ({n},) like their codes, got {tuple(labels.shape)}"
        )
    if labels.min() < 0:
        raise ValueError(f"{name} must be counted from 0, got {labels.min()}")
