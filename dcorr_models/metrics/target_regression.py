"""Linear regression from a code to numbers that are known of each image: R(y) → C."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import torch
from torch import Tensor

from dcorr_models.metrics.probes import check_codes

__all__ = ["TargetRegression", "target_regression"]


class TargetRegression(TypedDict):
    """What `target_regression` returns."""

    mean_absolute: float
    mean_absolute_unread: float
    per_target: list[float]
    per_target_unread: list[float]
    rmse: float
    rmse_unread: float
    unit: str
    targets: int
    train_samples: int
    test_samples: int
    dimensions: int


def target_regression(
    train_codes: Tensor,
    train_targets: Tensor,
    test_codes: Tensor,
    test_targets: Tensor,
    *,
    unit: str = "unit of the targets",
) -> TargetRegression:
    r"""The error of an ordinary least-squares fit from codes to targets, on unseen images.

    For each target: `per_target` $= \frac{1}{M} \sum_m \lvert w \cdot c_m + b - t_m \rvert$, with
    the $w$ and $b$ that minimise the squared error over the training codes, of least norm where
    several do. From class codes a high error is good, as in LORD's table 2: nothing of the content
    can be read there. An error says little alone, so that the one of the best constant, the mean
    of the training targets, stands beside it as `..._unread`.

    LORD regresses 68 facial landmarks and prints one error, without unit or kind of mean. Ours is
    the mean of the absolute error over all targets, x and y of each landmark counted singly.

    Args:
        train_codes: Float (N, P); float64 inside.
        train_targets: Float (N, T).
        test_codes: Float (M, P), of other images.
        test_targets: Float (M, T).
        unit: What one step of a target is, such as "pixel"; errors are given in it.

    Returns:
        A dict of errors in `unit`, 0 or above: `mean_absolute` over all targets and images,
        `per_target` (T), `rmse` (root of the mean square over all targets and images), each also
        as `..._unread`; and the sizes.

    Raises:
        ValueError: If shapes do not fit, or a number is NaN or infinite.
        TypeError: If codes or targets are not floating point.

    Reference:
        Gabbay and Hoshen (LORD), 2020, section 5 and table 2, last column.

    Example:
        >>> codes = torch.linspace(0, 1, 9)[:, None]
        >>> result = target_regression(codes, 3 * codes + 1, codes, 3 * codes + 1, unit="pixel")
        >>> round(result["mean_absolute"], 4), round(result["mean_absolute_unread"], 4)
        (0.0, 0.8333)
    """
    _check(train_codes, train_targets, test_codes, test_targets)
    x, y = (t.detach().cpu().double() for t in (train_codes, train_targets))
    x_test, y_test = (t.detach().cpu().double() for t in (test_codes, test_targets))
    centre, level = x.mean(dim=0), y.mean(dim=0)
    # By SVD: codes of few images, or with equal or constant columns, have no unique weights.
    weights = torch.linalg.lstsq(x - centre, y - level, driver="gelsd").solution
    read = (x_test - centre) @ weights + level - y_test
    unread = level - y_test
    return {
        "mean_absolute": read.abs().mean().item(),
        "mean_absolute_unread": unread.abs().mean().item(),
        "per_target": read.abs().mean(dim=0).tolist(),
        "per_target_unread": unread.abs().mean(dim=0).tolist(),
        "rmse": read.square().mean().sqrt().item(),
        "rmse_unread": unread.square().mean().sqrt().item(),
        "unit": unit,
        "targets": y.shape[1],
        "train_samples": len(x),
        "test_samples": len(x_test),
        "dimensions": x.shape[1],
    }


def _check(*tensors: Tensor) -> None:
    names = ("train_codes", "train_targets", "test_codes", "test_targets")
    for name, tensor in zip(names, tensors, strict=True):
        check_codes(name, tensor)
    pairs: Sequence[tuple[int, int, int]] = ((0, 2, 1), (1, 3, 1), (0, 1, 0), (2, 3, 0))
    for one, other, axis in pairs:
        sizes = tensors[one].shape[axis], tensors[other].shape[axis]
        if sizes[0] != sizes[1]:
            what = ("samples", "columns")[axis]
            raise ValueError(
                f"{names[one]} and {names[other]} need the same number of {what}, "
                f"got {sizes[0]} and {sizes[1]}"
            )
