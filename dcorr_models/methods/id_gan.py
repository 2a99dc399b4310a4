"""ID-GAN: a VAE learns a disentangled code, and a GAN learns to draw it.

Lee, Kim, Hong and Lee 2020, "High-fidelity synthesis with disentangled representation" (ECCV). In
the words of this package c is the disentangled code and s the nuisance. Every departure from the
paper and from its published code is listed in `docs/methods/id_gan.md`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.optim import Adam

from dcorr_models.errors import UserError
from dcorr_models.methods.checks import check_at_least
from dcorr_models.methods.latent_gan import SPRITES, GanSettings, to_data
from dcorr_models.methods.latent_vae import LatentVAE, reconstruction_error
from dcorr_models.methods.latent_variable import Gaussian, LatentVariable
from dcorr_models.methods.posterior_gan import (
    CodesFrom,
    Downsampling,
    PosteriorGAN,
    PosteriorStage,
)
from dcorr_models.training.optimizers import parameters_of
from dcorr_models.training.stage import Batch, Stage, frozen, weighted_sum

__all__ = ["IDGAN", "DistillationStage", "EndToEndStage", "code_cost"]


class IDGAN(PosteriorGAN):
    """ID-GAN (Lee et al. 2020), with its settings for dSprites.

    A first stage trains `vae`. In the second its encoder is fixed; a generator G(s, c) learns from
    a critic, with c of q(c | x) of real images x, and from the encoder: G's images must be read as
    the c that they were drawn of.

    Args:
        image_shape: channels, height and width of the images, which lie in [0, 1].
        latent_dim: size of c, that of the encoder.
        nuisance_dim: size of s: published 0 for sprites, 256 elsewhere.
        vae: the method of the first stage: any with an encoder that returns mean and log-variance;
            None for a `BetaVAE` with its defaults, at 64 pixels or the images' own size. Where its
            images are smaller than the generator's, they are reduced.
        start_from: folder of a finished run of that method, with the same settings, whose weights
            replace the first stage.
        codes_from: in training, c is drawn of the `aggregated` posterior, or of the `prior`.
        downsampling: what the encoder is shown of larger images: `bilinear`, as in the paper, or
            the `average` of the published code.
        distillation_weight: λ, of the encoder's negative log-likelihood of c; 0 is the paper's
            ablation without distillation.
        end_to_end: the paper's other ablation: VAE, generator and critic learn together in one
            stage, and what the generator wants of c reaches the encoder. Steps and batches are
            those of `gan`.
        gan: networks and training of generator and critic.
        generator: your own generator, called with (s, c), giving images in [-1, 1].
        discriminator: your own discriminator of such images, giving a tuple: logits (N,), and
            with `gan.bottleneck_nats` features (N, F) and divergence (N,).
    """

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] = (1, 64, 64),
        latent_dim: int = 10,
        nuisance_dim: int = 0,
        vae: LatentVariable | None = None,
        start_from: str | None = None,
        codes_from: CodesFrom = "aggregated",
        downsampling: Downsampling = "bilinear",
        distillation_weight: float = 1e-4,
        end_to_end: bool = False,
        gan: GanSettings = SPRITES,
        generator: nn.Module | None = None,
        discriminator: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_at_least(0, distillation_weight=distillation_weight)
        self.image_shape = image_shape
        self.latent_dim, self.nuisance_dim = latent_dim, nuisance_dim
        self.set_encoder(
            vae, start_from=start_from, codes_from=codes_from, downsampling=downsampling
        )
        self.distillation_weight, self.end_to_end = distillation_weight, end_to_end
        if end_to_end:
            self._check_joint(codes_from, gan.batch_size)
        self.make_players(gan, generator, discriminator)

    def stages(self) -> list[Stage]:
        """The encoder's, then generator and critic; or one of all."""
        if self.end_to_end:
            return [EndToEndStage(self, self.joint_vae())]
        return [*self.encoder_stages(), DistillationStage(self)]

    def joint_vae(self) -> LatentVAE:
        """The VAE that can learn beside a generator: one whose loss is a single sum.

        Raises:
            UserError: another one, such as FactorVAE, whose critic needs an update of its own.
        """
        if isinstance(self.vae, LatentVAE) and type(self.vae).stages is LatentVAE.stages:
            return self.vae
        raise UserError(
            f"end_to_end needs a VAE that one loss trains, and {type(self.vae).__name__} is "
            "trained in updates of its own: take BetaVAE, or two stages"
        )

    def _check_joint(self, codes_from: CodesFrom, batch_size: int) -> None:
        vae = self.joint_vae()
        if batch_size < vae.smallest_batch:
            raise UserError(
                f"end_to_end learns from batches of --method.gan.batch_size {batch_size}, and "
                f"{type(vae).__name__} needs {vae.smallest_batch} images or more"
            )
        if self.start_from is not None or codes_from == "prior":
            raise UserError(
                "end_to_end trains the encoder together with the generator, on codes of the "
                "images: leave start_from and codes_from out"
            )


class DistillationStage(PosteriorStage):
    """The second stage: L_GAN + λ · -log q(c | G(s, c)), the encoder fixed.

    The target is the sampled c, not the mean that it was drawn about.
    """

    def __init__(self, model: IDGAN, name: str = "id_gan", *, frozen_encoder: bool = True) -> None:
        weights = {"distillation": model.distillation_weight}
        super().__init__(model, name, weights=weights, frozen_encoder=frozen_encoder)
        self.distils = model.distillation_weight > 0

    def wishes(self, fakes: Tensor, judged: tuple[Tensor, ...], c: Tensor) -> dict[str, Tensor]:
        """The encoder's negative log-likelihood of c; its parameters get no gradient."""
        if not self.distils:
            return {}
        assert self.fabric is not None, "setup() comes before step()"
        with self.fabric.autocast():
            output = self.read(to_data(fakes))
        return {"distillation": code_cost(c, self.as_gaussian(output.to(c.dtype)))}

    def read(self, images: Tensor) -> Tensor:
        """Means and log-variances that the encoder gives images in [0, 1], side by side."""
        output: Tensor = self.fixed["encoder"](images)
        return output


class EndToEndStage(DistillationStage):
    """VAE, generator and critic in one stage: the paper's ablation "ID-GAN (end-to-end)".

    The critic learns first, as in two stages. The graph is then cut at c:

        G       L_GAN + λ · -log q(c | G(s', c)), the encoder's parameters fixed
        VAE     -log p(x | c) + penalty + (dL_G/dc)ᵀ c

    Args:
        model: the method.
        vae: its VAE.
    """

    def __init__(self, model: IDGAN, vae: LatentVAE) -> None:
        super().__init__(model, "end_to_end", frozen_encoder=False)
        settings = vae.step_settings
        self.networks |= {"encoder": vae.encoder, "decoder": vae.decoder}
        self.optimizers["autoencoder"] = Adam(
            parameters_of(vae.encoder, vae.decoder), lr=settings.lr, betas=settings.betas
        )
        self.id_gan, self.vae = model, vae

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of the critic, of the generator, and of the VAE."""
        # The VAE learns from the images as they are, as in two stages.
        small = self.id_gan.shrink(batch["image"])
        q = self.as_gaussian(self.networks["encoder"](small))
        c_graph = q.draw()
        c = c_graph.detach().requires_grad_()
        logs = self.update_critic(self.real(batch["image"]), c.detach())
        logs |= self.update_generator(c)
        self.id_gan.average.follow(self.id_gan.generator)
        # A generator that reads no c leaves nothing behind.
        wanted = torch.zeros_like(c) if c.grad is None else c.grad
        return logs | self._update_vae(small, q, c_graph, wanted)

    def update_generator(self, c: Tensor) -> dict[str, Tensor]:
        """One update of the generator; what it wants of c is then in `c.grad`."""
        terms = self.generator_terms(c)
        learning = [*self.networks["generator"].parameters(), c]
        self.update("generator", weighted_sum(terms, self.weights), inputs=learning)
        return {f"loss/{name}": term.detach() for name, term in terms.items()}

    def read(self, images: Tensor) -> Tensor:
        """The encoder as it is in this step, its parameters without gradient."""
        # Not as a player: DDP would count a second pass of it.
        with frozen(self.vae):
            return torch.cat(self.id_gan.posterior(images), dim=1)

    def _update_vae(self, x: Tensor, q: Gaussian, c: Tensor, wanted: Tensor) -> dict[str, Tensor]:
        output = self.networks["decoder"](c)
        reconstruction = reconstruction_error(output, x, self.vae.step_settings.likelihood)
        # Of the global batch: a penalty may be a statistic of all codes together.
        mean, logvar, codes = (self.rows_of_all(rows) for rows in (*q, c))
        penalty = self.vae.penalty(Gaussian(mean, logvar), codes, self.step_index)
        self.update("autoencoder", reconstruction + penalty.loss + (c * wanted).sum())
        terms = {"reconstruction": reconstruction, **penalty.parts}
        return {f"loss/{name}": term.detach() for name, term in terms.items()}


def code_cost(c: Tensor, q: Gaussian) -> Tensor:
    r"""-log q(c | x) in nats: a sum over the dimensions, a mean over the batch.

    .. math:: \tfrac12 \sum_d \log 2\pi + \log \sigma_d^2
        + \frac{(c_d - \mu_d)^2}{\sigma_d^2 + 10^{-8}}

    Args:
        c: (N, latent_dim).
        q: mean and log-variance, each of the same shape.

    Returns:
        A scalar of any sign.

    Reference:
        Lee et al. 2020, Eq. 4, without the entropy of c; the 1e-8 is the published code's.

    Example:
        >>> q = Gaussian(torch.zeros(5, 2), torch.zeros(5, 2))
        >>> round(code_cost(torch.ones(5, 2), q).item(), 4)  # log 2 pi + 1
        2.8379
    """
    square = (c - q.mean).square() / (q.logvar.exp() + 1e-8)
    return 0.5 * (math.log(2 * math.pi) + q.logvar + square).sum(dim=1).mean()
