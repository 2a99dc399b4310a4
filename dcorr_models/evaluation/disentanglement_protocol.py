"""What the evaluation of methods of independent latent numbers leaves to choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from dcorr_models.errors import UserError
from dcorr_models.methods.checks import check_at_least, check_choice

__all__ = ["DisentanglementProtocol"]


@dataclass(frozen=True)
class DisentanglementProtocol:
    """How much is measured of latent numbers and of drawn images, and how.

    Args:
        samples: images that are encoded, drawn at random from all splits, and images that are drawn
            for the Fréchet distance; None for all there are, where 10,000 are drawn.
        form: of the FactorVAE metric, see `metrics.factor_vae_metric`.
        votes: of it, in place of the form's.
        cut: least variance or standard deviation of a dimension in use.
        bins: of the mutual information gap.
        trees: of DCI, see `metrics.dci`.
        sap: form of SAP, see `metrics.sap`.
        reader_samples: of the encoded images, those that DCI and SAP learn from and are scored on
            at most, two thirds and one third.
        features: what the Fréchet distance reads: `factors`, a ConvNet trained to name the factors
            of these data; `efficientnet_lite0` (ImageNet, extra `perceptual`); `inception_v3`, of
            torchvision where you have it; the `pixels` themselves; or a module of yours from images
            in the data's range to (N, F). Its name stands beside the number.
        network_images: training images that the `factors` network learns from at most.
        network_epochs: its passes over them.
        drawn_from: the codes of the images of the Fréchet distance: `prior`, N(0, I), as ID-GAN's
            published code does, or `aggregated`, the posterior of real images.
        gilbo_steps: updates of GILBO's encoder; 0 leaves it out.
        aligned_samples: drawn images over which L_ID and GILBO are taken.
        reconstructions: test images that are reconstructed at most.

    Raises:
        UserError: a number that is too small, or an unknown choice.
    """

    samples: int | None = 10_000
    form: Literal["paper", "disentanglement_lib"] = "paper"
    votes: int | None = None
    cut: float = 0.05
    bins: int = 20
    trees: Literal["forest", "boosting"] = "forest"
    sap: Literal["classification", "regression"] = "classification"
    reader_samples: int = 6_000
    features: Literal["factors", "efficientnet_lite0", "inception_v3", "pixels"] | nn.Module = (
        "factors"
    )
    network_images: int | None = 20_000
    network_epochs: int = 4
    drawn_from: Literal["prior", "aggregated"] = "prior"
    gilbo_steps: int = 1_000
    aligned_samples: int = 2_000
    reconstructions: int | None = 2_000

    def __post_init__(self) -> None:
        check_at_least(1, network_epochs=self.network_epochs)
        check_at_least(0, gilbo_steps=self.gilbo_steps)
        check_at_least(3, reader_samples=self.reader_samples)
        pairs = {
            "samples": self.samples,
            "votes": self.votes,
            "bins": self.bins,
            "network_images": self.network_images,
            "aligned_samples": self.aligned_samples,
            "reconstructions": self.reconstructions,
        }
        check_at_least(2, **{name: n for name, n in pairs.items() if n is not None})
        check_choice(
            form=(self.form, ("paper", "disentanglement_lib")),
            trees=(self.trees, ("forest", "boosting")),
            sap=(self.sap, ("classification", "regression")),
            drawn_from=(self.drawn_from, ("prior", "aggregated")),
        )
        if not 0 <= self.cut < float("inf"):
            raise UserError(f"cut must be 0 or more and finite, got {self.cut}")
