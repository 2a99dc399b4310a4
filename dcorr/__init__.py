"""Differentiable dependence losses for PyTorch."""

from dcorr.cross_covariance import XCovLoss, xcov
from dcorr.distance_covariance import DCov2Loss, dcor, dcor2, dcov2
from dcorr.schedules import (
    Scheduled,
    cosine_ramp,
    linear_ramp,
    piecewise_constant,
    step_decay,
)

__all__ = [
    "DCov2Loss",
    "Scheduled",
    "XCovLoss",
    "cosine_ramp",
    "dcor",
    "dcor2",
    "dcov2",
    "linear_ramp",
    "piecewise_constant",
    "step_decay",
    "xcov",
]
