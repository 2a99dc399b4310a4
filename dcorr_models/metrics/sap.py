"""SAP: how much better the best single dimension reads a factor than the second best."""

from __future__ import annotations

import warnings
from typing import Literal, TypedDict

import numpy as np
import numpy.typing as npt
from torch import Tensor

from dcorr_models.metrics.dci import check_train_and_test
from dcorr_models.metrics.probes import as_array, standardise

__all__ = ["SAP", "sap"]

_PENALTY = 0.01  # C of the SVMs in disentanglement_lib


class SAP(TypedDict):
    """What `sap` returns."""

    sap: float
    per_factor: list[float]
    best_dimensions: list[int]
    scores: list[list[float]]
    form: str
    train_samples: int
    test_samples: int


def sap(
    train_codes: Tensor,
    train_factors: Tensor,
    test_codes: Tensor,
    test_factors: Tensor,
    *,
    form: Literal["classification", "regression"] = "classification",
) -> SAP:
    r"""The separated attribute predictability of a code.

    A score $S_{dk}$ says how well dimension $d$ alone reads factor $k$;
    $\mathrm{SAP} = \frac{1}{F} \sum_k (S_{d_k k} - \max_{d \ne d_k} S_{dk})$ with the best
    dimension $d_k$.

    - `classification`: the share of test samples that a linear SVM gets right, trained on the
      dimension alone (C = 0.01, classes balanced, one against the rest): all factors taken for
      classes, as disentanglement_lib does. Dimensions are standardised before, so that the penalty
      means the same for all; the library takes them as they come. A class in the middle of a line
      cannot be cut off at one point, so a factor of many values scores low even in a perfect code.
    - `regression`: the squared correlation of dimension and factor's number over the training
      samples, the paper's form for factors that are ordered.

    Args:
        train_codes: Float (N, D), such as posterior means, at least two dimensions not constant.
        train_factors: int64 (N, F), none constant.
        test_codes: Float (M, D), of other images.
        test_factors: int64 (M, F).
        form: How a dimension is scored.

    Returns:
        A dict: `sap`, and `per_factor` its terms, from 0 to 1, higher is better; for each factor
        the best dimension; `scores` (D, F).

    Raises:
        ValueError: If shapes do not fit, fewer than two dimensions vary, or a factor is constant.
        TypeError: If codes are not floating point or factors not int64.

    Reference:
        Kumar, Sattigeri and Balakrishnan (DIP-VAE), 2018, section 3.

    Example:
        >>> import torch
        >>> factors = torch.cartesian_prod(torch.arange(4), torch.arange(5)).repeat(3, 1)
        >>> codes = factors.double()
        >>> round(sap(codes, factors, codes, factors, form="regression")["sap"], 4)
        1.0
    """
    check_train_and_test(train_codes, train_factors, test_codes, test_factors)
    if form not in ("classification", "regression"):
        raise ValueError(f"form must be 'classification' or 'regression', got {form!r}")
    x, other_x = standardise(as_array(train_codes), as_array(test_codes))
    v, other_v = as_array(train_factors), as_array(test_factors)
    if form == "regression":
        u, _ = standardise(v.astype(np.float64), v.astype(np.float64))
        scores = (x.T @ u / len(x)) ** 2
    else:
        scores = np.array(
            [
                [_right(a, v[:, k], b, other_v[:, k]) for k in range(v.shape[1])]
                for a, b in zip(x.T, other_x.T, strict=True)
            ]
        )
    ordered = np.sort(scores, axis=0)
    gaps = ordered[-1] - ordered[-2]
    return {
        "sap": float(gaps.mean()),
        "per_factor": gaps.tolist(),
        "best_dimensions": scores.argmax(axis=0).tolist(),
        "scores": scores.tolist(),
        "form": form,
        "train_samples": len(x),
        "test_samples": len(other_x),
    }


def _right(
    codes: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int64],
    test_codes: npt.NDArray[np.float64],
    test_labels: npt.NDArray[np.int64],
) -> float:
    """The share of test samples that an SVM reads right from one dimension."""
    from sklearn.svm import LinearSVC

    if codes.min() == codes.max():  # says nothing: one answer, the most frequent one
        return float((test_labels == np.bincount(labels).argmax()).mean())
    svm = LinearSVC(C=_PENALTY, class_weight="balanced", dual=False)
    with warnings.catch_warnings():
        # a slow end of the search is no news: what is scored is how it reads other samples
        warnings.filterwarnings("ignore", module="sklearn")
        svm.fit(codes[:, None], labels)
    return float((svm.predict(test_codes[:, None]) == test_labels).mean())
