"""FactorVAE: a VAE whose critic tells its codes from codes of independent dimensions.

Kim and Mnih 2018, "Disentangling by factorising" (arXiv 1802.05983). Every departure is listed in
`docs/methods/latent_vaes.md`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam

from dcorr_models.methods.checks import check_at_least, check_betas, check_separate
from dcorr_models.methods.latent_vae import (
    LatentVAE,
    LatentVaeStage,
    Likelihood,
    Penalty,
    kl_to_prior,
)
from dcorr_models.methods.latent_variable import Gaussian
from dcorr_models.nets.initialisation import Initialisation
from dcorr_models.nets.tc_critic import TotalCorrelationCritic, log_density_ratio
from dcorr_models.training.optimizers import parameters_of
from dcorr_models.training.stage import Batch, Stage, frozen

__all__ = ["FactorStage", "FactorVAE"]

CODES, SHUFFLED = 0, 1


class FactorVAE(LatentVAE):
    """FactorVAE (Kim and Mnih 2018), at the networks of ID-GAN.

    Encoder and decoder minimise `-log p(x | c) + KL + γ TC`, where the total correlation is what
    the critic says of it, the mean of its logit 0 minus logit 1. The critic learns to tell codes
    (class 0) from codes of other images whose dimensions are shuffled one by one (class 1).

    Args:
        image_shape: channels, height and width: 32 or 64 pixels a side, or networks of your own.
        latent_dim: size of c.
        gamma: γ.
        critic_lr: learning rate of the critic's Adam.
        critic_betas: its decay rates of the two moments.
        critic_width: units of the critic's six hidden layers.
        likelihood: `bernoulli`, or `gaussian`, the squared error; both are sums over an image.
        batch_size: images of an update; as many again are drawn for the critic.
        steps: updates.
        lr: learning rate of Adam.
        betas: its decay rates of the two moments.
        initialisation: of the weights: `dcgan`, N(0, 0.02²) with biases 0, as in ID-GAN's code;
            `default`, PyTorch's; `scaled_uniform`. Networks of your own keep their weights.
        encoder: your own encoder, images to (N, 2 · latent_dim): means, then log-variances.
        decoder: your own decoder, (N, latent_dim) to logits of images.
        critic: your own critic, (N, latent_dim) to logits (N, 2).
    """

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] = (1, 64, 64),
        latent_dim: int = 10,
        gamma: float = 6.4,
        critic_lr: float = 1e-4,
        critic_betas: tuple[float, float] = (0.5, 0.9),
        critic_width: int = 1000,
        likelihood: Likelihood = "bernoulli",
        batch_size: int = 64,
        steps: int = 700_000,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        initialisation: Initialisation = "dcgan",
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        critic: nn.Module | None = None,
    ) -> None:
        super().__init__(
            image_shape=image_shape,
            latent_dim=latent_dim,
            likelihood=likelihood,
            batch_size=batch_size,
            steps=steps,
            lr=lr,
            betas=betas,
            initialisation=initialisation,
            encoder=encoder,
            decoder=decoder,
        )
        check_at_least(0, gamma=gamma, critic_lr=critic_lr)
        check_at_least(1, critic_width=critic_width)
        check_betas(critic_betas)
        if critic is None:
            critic = TotalCorrelationCritic(latent_dim, width=critic_width)
        check_separate(self.encoder, self.decoder, critic)
        self.critic, self.gamma = critic, gamma
        self.critic_lr, self.critic_betas = critic_lr, (critic_betas[0], critic_betas[1])

    def penalty(self, q: Gaussian, c: Tensor, step: int) -> Penalty:
        """KL + γ TC, by the critic as it is."""
        return self.judged(q, c, self.critic)

    def judged(self, q: Gaussian, c: Tensor, critic: nn.Module) -> Penalty:
        """KL + γ TC by a critic that does not learn from it."""
        with frozen(critic):
            total_correlation = log_density_ratio(critic(c)).mean()
        kl = kl_to_prior(q)
        parts = {"kl": kl, "total_correlation": total_correlation}
        return Penalty(kl + self.gamma * total_correlation, parts)

    def stages(self) -> list[Stage]:
        """One: encoder and decoder, then the critic, in every update."""
        return [FactorStage(self)]


class FactorStage(LatentVaeStage):
    """An update of encoder and decoder, and one of the critic, which sees twice as many images.

    A batch holds both halves. The critic's cost is ½ CE(D(c), 0) + ½ CE(D(c'), 1): c the codes that
    trained the encoder, c' those of the other half by the encoder as it is then, shuffled.
    """

    def __init__(self, model: FactorVAE) -> None:
        super().__init__(model)
        critic = parameters_of(model.critic)
        self.networks["critic"] = model.critic
        self.optimizers["critic"] = Adam(critic, lr=model.critic_lr, betas=model.critic_betas)
        self.batch_size = 2 * self.settings.batch_size
        self.factor_vae = model

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of each player."""
        x, others = batch["image"].chunk(2)
        logs, c = self.update_autoencoder(x)
        with torch.no_grad():
            drawn = Gaussian(*self.networks["encoder"](others).chunk(2, dim=1)).draw()
        logits = self.networks["critic"](torch.cat([c, shuffled(drawn)]))
        is_shuffled = torch.arange(len(logits), device=logits.device) >= len(c)
        loss = F.cross_entropy(logits, torch.where(is_shuffled, SHUFFLED, CODES))
        self.update("critic", loss)
        hits = (logits.detach().argmax(dim=1) == SHUFFLED) == is_shuffled
        return {**logs, "loss/critic": loss.detach(), "accuracy/critic": hits.float().mean()}

    def penalty(self, q: Gaussian, c: Tensor) -> Penalty:
        """A mean over the process's own codes, since no term is a statistic of the batch."""
        return self.factor_vae.judged(q, c, self.networks["critic"])


def shuffled(c: Tensor) -> Tensor:
    """The rows of each dimension in an order of its own: the product of the marginals.

    Args:
        c: (N, latent_dim).

    Returns:
        The same shape; each column has the values that it had.

    Example:
        >>> shuffled(torch.arange(6.0).reshape(3, 2)).sort(dim=0).values.tolist()
        [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    """
    orders = torch.rand(c.shape, device=c.device).argsort(dim=0)
    return c.gather(0, orders)
