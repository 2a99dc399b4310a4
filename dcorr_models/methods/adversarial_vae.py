"""beta-VAE with an adversarial loss, end-to-end: "VAE-GAN" in Table 2 of ID-GAN's paper.

Lee et al. 2020, section 5.3, after Larsen et al. 2016, whose own method is `VAEGAN` here. Nothing
but the idea is published: the choices are listed in `docs/methods/id_gan.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcorr_models.methods.beta_vae import BetaVAE
from dcorr_models.methods.checks import check_at_least, check_choice, check_separate
from dcorr_models.methods.latent_gan import Judge, rmsprop_099, to_generated
from dcorr_models.methods.latent_vae import LatentVaeStage, Likelihood, reconstruction_error
from dcorr_models.methods.latent_variable import Gaussian
from dcorr_models.nets.id_gan import ARCHITECTURES, Architecture, make_critic
from dcorr_models.nets.initialisation import Initialisation
from dcorr_models.training.gan import critic_cost, generator_cost
from dcorr_models.training.optimizers import parameters_of
from dcorr_models.training.stage import Batch, Stage, frozen

__all__ = ["AdversarialStage", "AdversarialVAE"]


class AdversarialVAE(BetaVAE):
    """beta-VAE whose reconstructions a critic judges: "VAE-GAN" of ID-GAN's paper (2020).

    Encoder and decoder minimise `-log p(x | c) + β KL + w · -log D(x̂)`, x̂ the decoder's image of a
    draw of q(c | x). The critic learns to tell x̂ from x, with an R1 penalty.

    Args:
        image_shape: channels, height and width: 32 or 64 pixels a side, or networks of your own.
        latent_dim: size of c.
        beta: β.
        gan_weight: w.
        r1_weight: of the critic's squared slope at real images; no factor 1/2.
        critic_architecture: `sprites`, a VAE's encoder with one output, or `resnet`.
        width: of the ResNet.
        critic_lr: learning rate of the critic's RMSprop.
        likelihood: `bernoulli`, or `gaussian`, the squared error; both are sums over an image.
        batch_size: images of an update.
        steps: updates.
        lr: learning rate of Adam.
        betas: its decay rates of the two moments.
        initialisation: of the weights of encoder and decoder: `dcgan`, N(0, 0.02²) with biases 0;
            `default`, PyTorch's; `scaled_uniform`. Networks of your own keep their weights.
        encoder: your own encoder, images to (N, 2 · latent_dim): means, then log-variances.
        decoder: your own decoder, (N, latent_dim) to logits of images.
        discriminator: your own discriminator, called with images in [-1, 1], giving a tuple whose
            first entry is the logits (N,).
    """

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] = (1, 64, 64),
        latent_dim: int = 10,
        beta: float = 8.0,
        gan_weight: float = 1.0,
        r1_weight: float = 10.0,
        critic_architecture: Architecture = "sprites",
        width: int = 64,
        critic_lr: float = 1e-4,
        likelihood: Likelihood = "bernoulli",
        batch_size: int = 64,
        steps: int = 500_000,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        initialisation: Initialisation = "dcgan",
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        discriminator: nn.Module | None = None,
    ) -> None:
        super().__init__(
            image_shape=image_shape,
            latent_dim=latent_dim,
            beta=beta,
            likelihood=likelihood,
            batch_size=batch_size,
            steps=steps,
            lr=lr,
            betas=betas,
            initialisation=initialisation,
            encoder=encoder,
            decoder=decoder,
        )
        check_choice(critic_architecture=(critic_architecture, ARCHITECTURES))
        check_at_least(0, gan_weight=gan_weight, r1_weight=r1_weight, critic_lr=critic_lr)
        if discriminator is None:
            discriminator = make_critic(critic_architecture, image_shape, width)
        check_separate(self.encoder, self.decoder, discriminator)
        self.discriminator = discriminator
        self.gan_weight, self.r1_weight, self.critic_lr = gan_weight, r1_weight, critic_lr

    def stages(self) -> list[Stage]:
        """One: the critic, then encoder and decoder, in every update."""
        return [AdversarialStage(self)]

    def rehearsal(
        self, images: Tensor
    ) -> Iterator[tuple[str, Callable[[], object], tuple[int, ...]]]:
        """What every VAE shows, and the critic's logits."""
        yield from super().rehearsal(images)
        x = to_generated(images)
        yield "discriminator (logits)", lambda: self.discriminator(x)[0], (len(images),)


class AdversarialStage(LatentVaeStage):
    """One pass of encoder and decoder; the critic learns from it, then they from the critic."""

    def __init__(self, model: AdversarialVAE) -> None:
        super().__init__(model)
        self.networks["discriminator"] = Judge(model.discriminator, slopes=model.r1_weight > 0)
        critic = parameters_of(model.discriminator)
        self.optimizers["discriminator"] = rmsprop_099(critic, model.critic_lr)
        self.adversarial = model

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of each player."""
        x, model = batch["image"], self.adversarial
        q = Gaussian(*self.networks["encoder"](x).chunk(2, dim=1))
        c = q.draw()
        output = self.networks["decoder"](c)
        rebuilt = to_generated(torch.sigmoid(output))
        logs = self._update_critic(to_generated(x), rebuilt.detach())
        with frozen(self.networks["discriminator"]):
            judged, _, _ = self.networks["discriminator"](rebuilt, ())
            generator = generator_cost(judged[0])
            reconstruction = reconstruction_error(output, x, self.settings.likelihood)
            penalty = self.penalty(q, c)
            loss = reconstruction + penalty.loss + model.gan_weight * generator
            self.update("autoencoder", loss)
        terms = {"reconstruction": reconstruction, "generator": generator, **penalty.parts}
        logs |= {f"loss/{name}": term.detach() for name, term in terms.items()}
        # of no player, but comparable between methods
        return {**logs, "loss/pixel": F.mse_loss(torch.sigmoid(output.detach()), x)}

    def _update_critic(self, x: Tensor, fakes: Tensor) -> dict[str, Tensor]:
        fake, real, slope = self.networks["discriminator"](fakes, (), x)
        terms = {
            "real": critic_cost(real[0], real=True),
            "fake": critic_cost(fake[0], real=False),
        }
        loss = terms["real"] + terms["fake"] + self.adversarial.r1_weight * slope
        self.update("discriminator", loss)
        if self.adversarial.r1_weight:
            terms["r1"] = slope
        return {f"loss/{name}": term.detach() for name, term in terms.items()}
