"""Differentiable dependence losses for PyTorch."""

from dcorr.cross_covariance import XCovLoss, xcov
from dcorr.schedules import linear_ramp

__all__ = ["XCovLoss", "linear_ramp", "xcov"]
