"""Reference trainers, one file a method family: read it to know all that it trains."""

from __future__ import annotations

from dcorr_models.methods.adversarial_vae import AdversarialVAE
from dcorr_models.methods.ae_xcov import AEXCov
from dcorr_models.methods.base import Codes, Method
from dcorr_models.methods.beta_tcvae import BetaTCVAE
from dcorr_models.methods.beta_vae import BetaVAE
from dcorr_models.methods.cdnet import CDNet
from dcorr_models.methods.cvae import CVAE
from dcorr_models.methods.cvae_gan import CVAEGAN
from dcorr_models.methods.cycle_vae import CycleVAE
from dcorr_models.methods.dcov_vae import DCovVAE
from dcorr_models.methods.dip_vae import DIPVAE
from dcorr_models.methods.drnet import DrNet
from dcorr_models.methods.factor_vae import FactorVAE
from dcorr_models.methods.gan import GAN
from dcorr_models.methods.icgan import IcGAN
from dcorr_models.methods.id_gan import IDGAN
from dcorr_models.methods.info_gan import InfoGAN
from dcorr_models.methods.latent_cgan import LatentCGAN
from dcorr_models.methods.latent_gan import GanSettings, LatentGAN
from dcorr_models.methods.latent_vae import LatentVAE
from dcorr_models.methods.latent_variable import Gaussian, LatentVariable
from dcorr_models.methods.lord import LORD
from dcorr_models.methods.lr_livae import LrLiVAE
from dcorr_models.methods.mddae import MddAE
from dcorr_models.methods.ml_vae import MLVAE
from dcorr_models.methods.projection_cgan import ProjectionCGAN
from dcorr_models.methods.vae_gan import VAEGAN

__all__ = [
    "CVAE",
    "CVAEGAN",
    "DIPVAE",
    "GAN",
    "IDGAN",
    "LORD",
    "MLVAE",
    "VAEGAN",
    "AEXCov",
    "AdversarialVAE",
    "BetaTCVAE",
    "BetaVAE",
    "CDNet",
    "Codes",
    "CycleVAE",
    "DCovVAE",
    "DrNet",
    "FactorVAE",
    "GanSettings",
    "Gaussian",
    "IcGAN",
    "InfoGAN",
    "LatentCGAN",
    "LatentGAN",
    "LatentVAE",
    "LatentVariable",
    "LrLiVAE",
    "MddAE",
    "Method",
    "ProjectionCGAN",
]
