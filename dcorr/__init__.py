"""Differentiable dependence losses for PyTorch."""

from dcorr.cross_covariance import XCovLoss, xcov
from dcorr.schedules import (
    Scheduled,
    cosine_ramp,
    linear_ramp,
    piecewise_constant,
    step_decay,
)

__all__ = [
    "Scheduled",
    "XCovLoss",
    "cosine_ramp",
    "linear_ramp",
    "piecewise_constant",
    "step_decay",
    "xcov",
]
