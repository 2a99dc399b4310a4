"""Reference trainers, one file a method family: read it to know all that it trains."""

from __future__ import annotations

from dcorr_models.methods.ae_xcov import AEXCov
from dcorr_models.methods.base import Codes, Method
from dcorr_models.methods.cdnet import CDNet
from dcorr_models.methods.icgan import IcGAN
from dcorr_models.methods.mddae import MddAE
from dcorr_models.methods.vae_gan import VAEGAN

__all__ = ["VAEGAN", "AEXCov", "CDNet", "Codes", "IcGAN", "MddAE", "Method"]
