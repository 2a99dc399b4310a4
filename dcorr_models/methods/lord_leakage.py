"""What LORD's content codes tell of the class while it trains: the paper's Fig. 7."""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

from dcorr_models.errors import UserError
from dcorr_models.metrics.probes import as_array, fit, linear_probe, standardise

__all__ = ["LEAKAGE_IMAGES", "check_probe", "linear_leakage", "probe_rows"]

LEAKAGE_IMAGES = 2000
"""Training images whose codes the probe sees, half of them to learn and half to be asked about."""


def check_probe() -> None:
    """Raises `UserError` where scikit-learn is missing."""
    if importlib.util.find_spec("sklearn") is None:
        raise UserError("leakage_every fits a probe of scikit-learn: pip install 'dcorr[eval]'")


def probe_rows(images: int) -> Tensor:
    """Which training images the probe sees: the same in every run and at every epoch."""
    order = torch.randperm(images, generator=torch.Generator().manual_seed(0))
    return order[:LEAKAGE_IMAGES]


def linear_leakage(codes: Tensor, labels: Tensor) -> float:
    """Accuracy of a logistic regression on the second half of the codes, fitted to the first.

    Codes are standardised by the first half. C = 1.

    Args:
        codes: (N, Z), in random order.
        labels: int64 (N,).

    Returns:
        In [0, 1]; NaN never: with a single class among the first half, the share of that class.

    Example:
        >>> labels = torch.arange(200) % 2
        >>> linear_leakage(labels[:, None] + torch.linspace(0, 0.1, 200)[:, None], labels)
        1.0
    """
    half = len(codes) // 2
    train, test = standardise(as_array(codes[:half].double()), as_array(codes[half:].double()))
    first, second = as_array(labels[:half]), as_array(labels[half:])
    if len(set(first.tolist())) < 2:
        return float((second == first[0]).mean())
    return float((fit(linear_probe(), train, first).predict(test) == second).mean())
