"""Differentiable dependence losses for PyTorch."""

from dcorr.asymmetric_noise import AsymmetricNoise, asymmetric_noise
from dcorr.cross_covariance import XCovLoss, xcov
from dcorr.distance_covariance import DCov2Loss, dcor, dcor2, dcov2
from dcorr.gaussian_mixture import GaussianMixtureLoss, gm_loss, gm_loss_terms
from dcorr.schedules import (
    Scheduled,
    cosine_ramp,
    linear_ramp,
    piecewise_constant,
    step_decay,
)

__all__ = [
    "AsymmetricNoise",
    "DCov2Loss",
    "GaussianMixtureLoss",
    "Scheduled",
    "XCovLoss",
    "asymmetric_noise",
    "cosine_ramp",
    "dcor",
    "dcor2",
    "dcov2",
    "gm_loss",
    "gm_loss_terms",
    "linear_ramp",
    "piecewise_constant",
    "step_decay",
    "xcov",
]
