"""Reference trainers, one file a method family: read it to know all that it trains."""

from __future__ import annotations

from dcorr_models.methods.base import Codes, Method
from dcorr_models.methods.cdnet import CDNet

__all__ = ["CDNet", "Codes", "Method"]
