"""cVAE: a variational auto-encoder whose encoder and decoder are told the class.

Sohn, Lee and Yan 2015, "Learning structured output representation using deep conditional generative
models", in the form of Lr-LiVAE's comparison: p(x | z, y) with z of the standard normal. Every
departure is listed in `docs/methods/cvae.md`.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam

from dcorr_models.methods.checks import check_at_least, check_betas, check_choice
from dcorr_models.methods.label_conditional import LabelConditional
from dcorr_models.methods.vae_gan_stage import gaussian_kl
from dcorr_models.nets.cvae import ClassEncoder
from dcorr_models.nets.lr_livae import ARCHITECTURES, Decoder, Encoder
from dcorr_models.training.optimizers import parameters_of
from dcorr_models.training.stage import Batch, Stage, weighted_sum

__all__ = ["CVAE", "CvaeStage"]

ArchitectureName = Literal["facescrub64", "cifar10", "mnist", "mnist_small", "toy"]


class CVAE(LabelConditional):
    """cVAE (Sohn et al. 2015), at the networks and in the loss's scale of Lr-LiVAE.

    Args:
        architecture: Lr-LiVAE's networks of one size: `facescrub64` (64x64) and `cifar10` (32x32),
            images in [-1, 1]; `mnist`, `mnist_small` (28x28), images in [0, 1]; `toy`, points.
        image_shape: channels, height and width of the images.
        num_labels: classes.
        latent_dim: size of z.
        reconstruction_weight: weight of the squared error's mean over all values of the images.
        kl_weight: weight of the KL divergence's mean over the dimensions of z. With the default
            weights the loss is in the scale of Lr-LiVAE; the evidence bound of a Gaussian of
            variance s² needs kl_weight / reconstruction_weight = 2 s² · latent_dim / values.
        batch_size: images of an update.
        steps: updates.
        lr: learning rate of both Adams.
        betas: their decay rates of the two moments.
        encoder: your own encoder, called with (images, one-hot labels), giving (N, 2 · latent_dim):
            means of z, then log-variances.
        decoder: your own decoder, called with (one-hot labels, z), giving images.
        classifier: your own classifier, images to logits (N, num_labels); it learns beside the
            other two and touches neither of them.
    """

    def __init__(
        self,
        *,
        architecture: ArchitectureName = "mnist",
        image_shape: tuple[int, int, int] = (1, 28, 28),
        num_labels: int = 10,
        latent_dim: int = 32,
        reconstruction_weight: float = 10.0,
        kl_weight: float = 1.0,
        batch_size: int = 96,
        steps: int = 50_000,
        lr: float = 5e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        classifier: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_choice(architecture=(architecture, ARCHITECTURES))
        check_at_least(1, num_labels=num_labels, latent_dim=latent_dim, batch_size=batch_size)
        check_at_least(0, reconstruction_weight=reconstruction_weight, kl_weight=kl_weight)
        check_at_least(0, steps=steps, lr=lr)
        check_betas(betas)
        self.image_shape, self.num_labels, self.latent_dim = image_shape, num_labels, latent_dim
        sizes = ARCHITECTURES[architecture]
        # A decoder of the user's own may give any range.
        self.value_range = sizes.value_range if decoder is None else None
        # `is None`, not truth: an empty nn.Sequential is false, and still the user's choice.
        if encoder is None:
            encoder = ClassEncoder(image_shape, sizes, latent_dim, num_labels)
        if decoder is None:
            decoder = Decoder(image_shape, sizes, num_labels + latent_dim)
        if classifier is None:
            classifier = Encoder(image_shape, sizes, (num_labels,))
        self.set_networks(encoder=encoder, decoder=decoder, classifier=classifier)
        self.step_settings = StepSettings(
            weights={"reconstruction": reconstruction_weight, "kl": kl_weight},
            steps=steps,
            batch_size=batch_size,
            lr=lr,
            betas=(betas[0], betas[1]),
        )

    def stages(self) -> list[Stage]:
        """One: the auto-encoder, and the classifier beside it."""
        return [CvaeStage(self)]


class StepSettings(NamedTuple):
    """What one update needs to know; see the arguments of `CVAE`."""

    weights: dict[str, float]
    steps: int
    batch_size: int
    lr: float
    betas: tuple[float, float]


class Model(Protocol):
    """What the stage needs of `CVAE`."""

    encoder: nn.Module
    decoder: nn.Module
    classifier: nn.Module
    step_settings: StepSettings

    def one_hot(self, labels: Tensor) -> Tensor:
        """Classes as the networks read them."""


class CvaeStage(Stage):
    """Two players that share nothing.

    Enc, Dec    λ_rec mean (x - x̂)² + λ_kl mean KL(q(z | x, y) || N(0, 1)),   x̂ = Dec(y, z)
    classifier  -log p(y | x)
    """

    def __init__(self, model: Model) -> None:
        settings = model.step_settings
        players = {
            "autoencoder": parameters_of(model.encoder, model.decoder),
            "classifier": parameters_of(model.classifier),
        }
        super().__init__(
            "cvae",
            networks={
                "encoder": model.encoder,
                "decoder": model.decoder,
                "classifier": model.classifier,
            },
            optimizers={
                name: Adam(parameters, lr=settings.lr, betas=settings.betas)
                for name, parameters in players.items()
            },
            max_steps=settings.steps,
            batch_size=settings.batch_size,
        )
        self.model = model

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of each player."""
        x, label = batch["image"], self.model.one_hot(batch["label"])
        mean, log_variance = self.networks["encoder"](x, label).chunk(2, dim=1)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        images = self.networks["decoder"](label, z)
        terms = {
            "reconstruction": F.mse_loss(images, x),
            "kl": gaussian_kl(mean, log_variance).mean(),
        }
        self.update("autoencoder", weighted_sum(terms, self.model.step_settings.weights))
        logits = self.networks["classifier"](x)
        terms["class"] = F.cross_entropy(logits, batch["label"])
        self.update("classifier", terms["class"])
        logs = {f"loss/{name}": term.detach() for name, term in terms.items()}
        hits = logits.detach().argmax(dim=1) == batch["label"]
        return {**logs, "accuracy/class": hits.float().mean()}
