"""DCI: disentanglement, completeness and informativeness, by trees that read factors off a code."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

import numpy as np
import numpy.typing as npt
from torch import Tensor

from dcorr_models.metrics.active_dimensions import (
    check_factors,
    check_varied,
    require_two_active,
)
from dcorr_models.metrics.probes import as_array

__all__ = ["DCI", "dci"]

_TREES = 10
_LEAVES = 2  # of a tree, for each value of the factor


class DCI(TypedDict):
    """What `dci` returns."""

    disentanglement: float
    completeness: float
    informativeness: float
    per_dimension: list[float]
    per_factor: list[float]
    accuracy: list[float]
    importance: list[list[float]]
    model: str
    train_samples: int
    test_samples: int
    seed: int


def dci(
    train_codes: Tensor,
    train_factors: Tensor,
    test_codes: Tensor,
    test_factors: Tensor,
    *,
    model: Literal["forest", "boosting"] = "forest",
    seed: int = 0,
) -> DCI:
    r"""How far a dimension knows one factor alone, and a factor is known to one dimension alone.

    A classifier of trees learns each factor from all dimensions. How often it splits by one of
    them, weighted by the fall of impurity, is the importance $R_{dk} \ge 0$. With
    $P_{dk} = R_{dk} / \sum_j R_{dj}$ and the entropy to base F,

    - disentanglement $= \sum_d \rho_d (1 - H_F(P_{d\cdot}))$, $\rho_d$ the dimension's share of all
      importance;
    - completeness $= \sum_k \rho_k (1 - H_D(\tilde P_{\cdot k}))$, the same for a factor over the D
      dimensions;
    - informativeness, the mean share of test samples whose factor is read right. (The authors
      report an error; here higher is better for all three.)

    Args:
        train_codes: Float (N, D), such as posterior means, at least two dimensions not constant.
        train_factors: int64 (N, F), F at least 2, none constant.
        test_codes: Float (M, D), of other images.
        test_factors: int64 (M, F).
        model: `forest`, 10 bagged trees that look at all dimensions in every split. Importance is
            taken from trees of at most two leaves for each value of the factor, since leaves beyond
            those split by noise and give it importance; accuracy from trees that grow to the end.
            (The authors' forest is of a depth chosen by cross-validation.) Or `boosting`,
            scikit-learn's gradient boosting as in disentanglement_lib, which is much slower. Their
            numbers do not compare.
        seed: Of the trees.

    Returns:
        A dict of the three scores from 0 to 1; `per_dimension` and `per_factor`, the terms of the
        first two; `accuracy` of each factor; `importance` (D, F), its columns adding up to 1.

    Raises:
        ValueError: If shapes do not fit, fewer than two dimensions vary, there is one factor, or a
            factor is constant.
        TypeError: If codes are not floating point or factors not int64.

    Reference:
        Eastwood and Williams, A framework for the quantitative evaluation of disentangled
        representations, 2018.

    Example:
        >>> import torch
        >>> factors = torch.cartesian_prod(torch.arange(4), torch.arange(5)).repeat(3, 1)
        >>> found = dci(factors.double(), factors, factors.double(), factors)
        >>> [round(found[key], 4) for key in ("disentanglement", "completeness", "informativeness")]
        [1.0, 1.0, 1.0]
    """
    check_train_and_test(train_codes, train_factors, test_codes, test_factors)
    if train_factors.shape[1] < 2:
        raise ValueError("factors need at least two columns, got one: nothing can be told apart")
    if model not in ("forest", "boosting"):
        raise ValueError(f"model must be 'forest' or 'boosting', got {model!r}")
    x, v = as_array(train_codes), as_array(train_factors)
    other_x, other_v = as_array(test_codes), as_array(test_factors)
    columns, accuracy = [], []
    for k in range(v.shape[1]):
        small, large = _trees(model, len(np.unique(v[:, k])), seed)
        columns.append(small.fit(x, v[:, k]).feature_importances_)
        reader = small if large is None else large.fit(x, v[:, k])
        accuracy.append(float((reader.predict(other_x) == other_v[:, k]).mean()))
    importance = np.stack(columns, axis=1)  # (D, F)
    by_dimension = 1 - _entropy(importance)
    by_factor = 1 - _entropy(importance.T)
    share = importance / importance.sum()
    return {
        "disentanglement": float((share.sum(axis=1) * by_dimension).sum()),
        "completeness": float((share.sum(axis=0) * by_factor).sum()),
        "informativeness": float(np.mean(accuracy)),
        "per_dimension": by_dimension.tolist(),
        "per_factor": by_factor.tolist(),
        "accuracy": accuracy,
        "importance": importance.tolist(),
        "model": model,
        "train_samples": len(x),
        "test_samples": len(other_x),
        "seed": seed,
    }


def check_train_and_test(
    train_codes: Tensor, train_factors: Tensor, test_codes: Tensor, test_factors: Tensor
) -> None:
    """Codes and factors to learn from and to score on, of one width each.

    Raises:
        ValueError: If shapes do not fit, a training factor is constant, or fewer than two
            dimensions vary.
        TypeError: If codes are not floating point or factors not int64.
    """
    check_factors(train_codes, train_factors, names="train_codes and train_factors")
    check_factors(test_codes, test_factors, names="test_codes and test_factors")
    check_varied(train_factors)
    require_two_active(train_codes)
    for name, one, other in (
        ("codes", train_codes, test_codes),
        ("factors", train_factors, test_factors),
    ):
        if one.shape[1] != other.shape[1]:
            raise ValueError(
                f"train_{name} and test_{name} need the same number of columns, "
                f"got {one.shape[1]} and {other.shape[1]}"
            )


def _trees(model: str, values: int, seed: int) -> tuple[Any, Any]:
    """What importance is taken from; and what reads the factor, None for the same."""
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier

    if model == "boosting":
        return GradientBoostingClassifier(random_state=seed), None
    # all dimensions in every split: a tree that may not look at the right one would credit others
    small, large = (
        RandomForestClassifier(_TREES, max_features=None, max_leaf_nodes=leaves, random_state=seed)
        for leaves in (_LEAVES * values, None)
    )
    return small, large


def _entropy(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Of each row, to the base of its length; 1 for a row of zeros, which knows nothing."""
    total = weights.sum(axis=1, keepdims=True)
    even = np.full_like(weights, 1 / weights.shape[1])
    shares = np.divide(weights, total, out=even, where=total > 0)
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    entropy: npt.NDArray[np.float64] = -(shares * logs).sum(axis=1) / np.log(weights.shape[1])
    return entropy.clip(0, 1)
