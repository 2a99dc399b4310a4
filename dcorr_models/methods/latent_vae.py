"""What the VAEs of this package share: encoder, decoder, and the one stage that trains them.

A subclass, one file each, says what is added to the reconstruction error: `penalty`.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam

from dcorr_models.methods.checks import check_at_least, check_betas, check_choice, check_separate
from dcorr_models.methods.latent_variable import Gaussian, LatentVariable
from dcorr_models.methods.vae_gan_stage import gaussian_kl
from dcorr_models.nets.initialisation import INITIALISATIONS, Initialisation, initialise
from dcorr_models.nets.latent_vae import LatentDecoder, LatentEncoder
from dcorr_models.training.optimizers import parameters_of
from dcorr_models.training.stage import Batch, Stage

__all__ = [
    "LatentVAE",
    "LatentVaeStage",
    "Likelihood",
    "Penalty",
    "StepSettings",
    "kl_to_prior",
    "reconstruction_error",
]

Likelihood = Literal["bernoulli", "gaussian"]


class Penalty(NamedTuple):
    """What a VAE adds to the reconstruction error."""

    loss: Tensor
    parts: dict[str, Tensor]
    """Its terms before they are weighted, for the log."""


class StepSettings(NamedTuple):
    """What one update needs to know; see the arguments of `LatentVAE`."""

    likelihood: Likelihood
    steps: int
    batch_size: int
    lr: float
    betas: tuple[float, float]


class LatentVAE(LatentVariable):
    """An encoder to q(c | x), a decoder to p(x | c), and a penalty. Images lie in [0, 1].

    Args:
        image_shape: channels, height and width: 32 or 64 pixels a side, or networks of your own.
        latent_dim: size of c.
        likelihood: see `reconstruction_error`.
        batch_size: images of an update.
        steps: updates.
        lr: learning rate of Adam.
        betas: its decay rates of the two moments.
        initialisation: of the weights: `dcgan`, N(0, 0.02²) with biases 0, as in ID-GAN's code;
            `default`, PyTorch's; `scaled_uniform`. Networks of your own keep their weights.
        encoder: your own encoder, images to (N, 2 · latent_dim): means, then log-variances.
        decoder: your own decoder, (N, latent_dim) to logits of images.
    """

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int],
        latent_dim: int,
        likelihood: Likelihood,
        batch_size: int,
        steps: int,
        lr: float,
        betas: tuple[float, float],
        initialisation: Initialisation,
        encoder: nn.Module | None,
        decoder: nn.Module | None,
    ) -> None:
        super().__init__()
        check_choice(
            likelihood=(likelihood, ("bernoulli", "gaussian")),
            initialisation=(initialisation, INITIALISATIONS),
        )
        check_at_least(1, latent_dim=latent_dim)
        check_at_least(self.smallest_batch, batch_size=batch_size)
        check_at_least(0, steps=steps, lr=lr)
        check_betas(betas)
        self.image_shape, self.latent_dim = image_shape, latent_dim
        # `is None`, not truth: an empty nn.Sequential is false, and still the user's choice.
        if encoder is None:
            encoder = LatentEncoder(image_shape, 2 * latent_dim)
            initialise(encoder, initialisation)
        if decoder is None:
            decoder = LatentDecoder(image_shape, latent_dim)
            initialise(decoder, initialisation)
        check_separate(encoder, decoder)
        self.encoder, self.decoder = encoder, decoder
        self.step_settings = StepSettings(
            likelihood, steps, batch_size, lr, (float(betas[0]), float(betas[1]))
        )

    smallest_batch: int = 1
    """How many images the penalty is defined for."""

    @abstractmethod
    def penalty(self, q: Gaussian, c: Tensor, step: int) -> Penalty:
        """What is added to the reconstruction error.

        Args:
            q: q(c | x) of the batch; with several processes, of the global one.
            c: a draw of each, (N, latent_dim).
            step: the update's number, from 0.
        """

    def stages(self) -> list[Stage]:
        """One: encoder and decoder together."""
        return [LatentVaeStage(self)]

    def posterior(self, images: Tensor) -> Gaussian:
        """(N, C, H, W) images to mean and log-variance of q(c | x)."""
        return Gaussian(*self.encoder(images).chunk(2, dim=1))

    def render(self, c: Tensor, s: Tensor) -> Tensor:
        """The means of p(x | c), in [0, 1]; s has no columns."""
        return torch.sigmoid(self.decoder(c))


class LatentVaeStage(Stage):
    """One player: reconstruction error and penalty, of encoder and decoder."""

    reads_labels = False

    def __init__(self, model: LatentVAE) -> None:
        settings = model.step_settings
        learning = parameters_of(model.encoder, model.decoder)
        super().__init__(
            "vae",
            networks={"encoder": model.encoder, "decoder": model.decoder},
            optimizers={"autoencoder": Adam(learning, lr=settings.lr, betas=settings.betas)},
            max_steps=settings.steps,
            batch_size=settings.batch_size,
        )
        self.model, self.settings = model, settings

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of encoder and decoder."""
        logs, _ = self.update_autoencoder(batch["image"])
        return logs

    def update_autoencoder(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """One update of encoder and decoder; its logs, and the codes drawn, without their graph."""
        q = Gaussian(*self.networks["encoder"](x).chunk(2, dim=1))
        c = q.draw()
        output = self.networks["decoder"](c)
        reconstruction = reconstruction_error(output, x, self.settings.likelihood)
        penalty = self.penalty(q, c)
        self.update("autoencoder", reconstruction + penalty.loss)
        terms = {"reconstruction": reconstruction, **penalty.parts}
        logs = {f"loss/{name}": term.detach() for name, term in terms.items()}
        # of no player, but comparable between methods
        logs["loss/pixel"] = F.mse_loss(torch.sigmoid(output.detach()), x)
        return logs, c.detach()

    def penalty(self, q: Gaussian, c: Tensor) -> Penalty:
        """The method's, of the global batch: it may be a statistic of all codes together."""
        mean, logvar, codes = (self.rows_of_all(rows) for rows in (*q, c))
        return self.model.penalty(Gaussian(mean, logvar), codes, self.step_index)


def reconstruction_error(output: Tensor, x: Tensor, likelihood: Likelihood) -> Tensor:
    r"""-log p(x | c) of an image, but for constants: a sum over its values, a mean over the batch.

    .. math::
        \mathrm{bernoulli}\;\;  -\sum_k x_k \log \hat x_k + (1 - x_k) \log (1 - \hat x_k),
        \qquad \mathrm{gaussian}\;\; \sum_k (x_k - \hat x_k)^2

    with the sigmoid of `output` as :math:`\hat x`. The second is without 1/2, as in ID-GAN's code:
    the published β belong to this scale, in which the variance of p(x | c) is 1/2.

    Args:
        output: the decoder's, (N, C, H, W).
        x: images in [0, 1], of the same shape.
        likelihood: see above.

    Returns:
        A scalar, in nats.

    Example:
        >>> output, x = torch.zeros(2, 1, 2, 2), torch.ones(2, 1, 2, 2)
        >>> round(reconstruction_error(output, x, "bernoulli").item(), 4)  # 4 log 2
        2.7726
        >>> reconstruction_error(output, x, "gaussian").item()
        1.0
    """
    if likelihood == "bernoulli":
        total = F.binary_cross_entropy_with_logits(output, x, reduction="sum")
    else:
        total = F.mse_loss(torch.sigmoid(output), x, reduction="sum")
    return total / len(x)


def kl_to_prior(q: Gaussian) -> Tensor:
    """KL(q(c | x) || N(0, I)): a sum over the dimensions, a mean over the batch.

    Example:
        >>> kl_to_prior(Gaussian(torch.ones(5, 4), torch.zeros(5, 4))).item()
        2.0
    """
    return gaussian_kl(q.mean, q.logvar).sum(dim=1).mean()
