"""Differentiable dependence losses for PyTorch."""

from dcorr.asymmetric_noise import AsymmetricNoise, asymmetric_noise
from dcorr.cross_covariance import XCovLoss, xcov
from dcorr.distance_covariance import dcor, dcor2, dcov, dcov2, dvar2
from dcorr.distance_modules import (
    DCor2Loss,
    DCorLoss,
    DCov2Loss,
    DCovLoss,
    DVar2Loss,
    PDCorLoss,
    PDCov2Loss,
)
from dcorr.gaussian_mixture import GaussianMixtureLoss, gm_loss, gm_loss_terms
from dcorr.partial_distance_covariance import pdcor, pdcov2
from dcorr.schedules import (
    Scheduled,
    cosine_ramp,
    linear_ramp,
    piecewise_constant,
    step_decay,
)
from dcorr.sliced import SlicedEstimate, sliced_dcov2

__all__ = [
    "AsymmetricNoise",
    "DCor2Loss",
    "DCorLoss",
    "DCov2Loss",
    "DCovLoss",
    "DVar2Loss",
    "GaussianMixtureLoss",
    "PDCorLoss",
    "PDCov2Loss",
    "Scheduled",
    "SlicedEstimate",
    "XCovLoss",
    "asymmetric_noise",
    "cosine_ramp",
    "dcor",
    "dcor2",
    "dcov",
    "dcov2",
    "dvar2",
    "gm_loss",
    "gm_loss_terms",
    "linear_ramp",
    "pdcor",
    "pdcov2",
    "piecewise_constant",
    "sliced_dcov2",
    "step_decay",
    "xcov",
]
