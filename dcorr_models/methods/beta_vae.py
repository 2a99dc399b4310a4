"""beta-VAE, with a constant weight or an annealed capacity; with weight 1, the VAE itself.

Higgins et al. 2017, "beta-VAE: learning basic visual concepts with a constrained variational
framework"; Burgess et al. 2018, "Understanding disentangling in beta-VAE" (arXiv 1804.03599).
Every departure is listed in `docs/methods/latent_vaes.md`.
"""

from __future__ import annotations

from torch import Tensor, nn

from dcorr import linear_ramp
from dcorr_models.methods.checks import check_at_least
from dcorr_models.methods.latent_vae import LatentVAE, Likelihood, Penalty, kl_to_prior
from dcorr_models.methods.latent_variable import Gaussian
from dcorr_models.nets.initialisation import Initialisation

__all__ = ["BetaVAE"]


class BetaVAE(LatentVAE):
    """beta-VAE (Higgins et al. 2017), with ID-GAN's settings for dSprites.

    The loss is `-log p(x | c) + β KL(q(c | x) || N(0, I))`, or with a capacity C (Burgess et al.
    2018) `-log p(x | c) + β |KL - C(t)|`, where C(t) goes from 0 to C in a straight line.

    Args:
        image_shape: channels, height and width: 32 or 64 pixels a side, or networks of your own.
        latent_dim: size of c.
        beta: β; 1 is the VAE. With a capacity it is the paper's γ, and large (1000 there).
        capacity: C in nats; None for the loss without it.
        capacity_steps: updates in which it is reached.
        likelihood: `bernoulli`, or `gaussian`, the squared error; both are sums over an image.
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
        image_shape: tuple[int, int, int] = (1, 64, 64),
        latent_dim: int = 10,
        beta: float = 8.0,
        capacity: float | None = None,
        capacity_steps: int = 100_000,
        likelihood: Likelihood = "bernoulli",
        batch_size: int = 64,
        steps: int = 500_000,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        initialisation: Initialisation = "dcgan",
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
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
        check_at_least(0, beta=beta, capacity_steps=capacity_steps, capacity=capacity or 0.0)
        self.beta, self.capacity, self.capacity_steps = beta, capacity, capacity_steps

    def penalty(self, q: Gaussian, c: Tensor, step: int) -> Penalty:
        """``β KL``, or ``β |KL - C(t)|``."""
        kl = kl_to_prior(q)
        if self.capacity is None:
            return Penalty(self.beta * kl, {"kl": kl})
        capacity = linear_ramp(step, length=self.capacity_steps, end=self.capacity)
        return Penalty(self.beta * (kl - capacity).abs(), {"kl": kl})
