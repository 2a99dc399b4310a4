"""Probes that read a code: how they are made, and what they are fed."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dcorr import dcor

__all__ = [
    "MLP_WIDTH",
    "as_array",
    "check_codes",
    "dcor_with_floor",
    "fit",
    "linear_probe",
    "mlp_probe",
    "standardise",
]

MLP_WIDTH = 64
_MLP_EPOCHS = 100
_SHUFFLES = 10


def linear_probe() -> Any:
    """Logistic regression, L2 penalty with C = 1, L-BFGS run to convergence."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=1.0, max_iter=1000)


def mlp_probe(seed: int, *, width: int = MLP_WIDTH) -> Any:
    """One hidden layer of ReLU units, Adam with rate 1e-3, batches of 200, 100 epochs."""
    from sklearn.neural_network import MLPClassifier

    # tol = 0 switches the stop on slow progress off: the protocol says 100 epochs
    return MLPClassifier(
        hidden_layer_sizes=(width,),
        alpha=1e-4,
        batch_size=200,
        learning_rate_init=1e-3,
        max_iter=_MLP_EPOCHS,
        tol=0.0,
        n_iter_no_change=_MLP_EPOCHS,
        random_state=seed,
    )


def fit(probe: Any, codes: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]) -> Any:
    """The probe, trained."""
    with warnings.catch_warnings():
        # sklearn warns that the MLP has not converged: its number of epochs is the protocol
        warnings.filterwarnings("ignore", module="sklearn")
        return probe.fit(codes, labels)


def standardise(
    train: npt.NDArray[np.float64], test: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Both with the mean and standard deviation of the training codes; constants become 0."""
    mean, std = train.mean(axis=0), train.std(axis=0)
    # rounding leaves a constant column with a spread of about 1e-16 of its size, not with 0
    constant = std <= 1e-12 * np.abs(train).max(axis=0, initial=0.0)
    scale = np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, std))
    return (train - mean) * scale, (test - mean) * scale


def dcor_with_floor(
    label_codes: Tensor | None, codes: Tensor, seed: int
) -> tuple[float, float] | tuple[None, None]:
    """The distance correlation, and its mean over random pairings."""
    if label_codes is None:
        return None, None
    x, y = (tensor.detach().cpu().double() for tensor in (label_codes, codes))
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(x), generator=generator) for _ in range(_SHUFFLES)]
    shuffled = [float(dcor(x[order], y)) for order in orders]
    return float(dcor(x, y)), sum(shuffled) / _SHUFFLES


def as_array(tensor: Tensor) -> npt.NDArray[Any]:
    """On the CPU, float64 if it is floating point."""
    tensor = tensor.detach().cpu()
    return (tensor.double() if tensor.is_floating_point() else tensor).numpy()


def check_codes(name: str, codes: Tensor) -> None:
    """Finite floats (N, P), neither of them 0."""
    if not codes.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {codes.dtype}")
    if codes.ndim != 2 or 0 in codes.shape:
        raise ValueError(f"{name} must have shape (N, P), got {tuple(codes.shape)}")
    if not codes.isfinite().all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
