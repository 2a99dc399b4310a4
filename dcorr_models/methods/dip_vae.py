"""DIP-VAE: the covariance of the codes is drawn to the identity.

Kumar, Sattigeri and Balakrishnan 2018, "Variational inference of disentangled latent concepts from
unlabeled observations" (arXiv 1711.00848). Every departure is listed in
`docs/methods/latent_vaes.md`.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from dcorr_models.methods.checks import check_at_least, check_choice
from dcorr_models.methods.latent_vae import LatentVAE, Likelihood, Penalty, kl_to_prior
from dcorr_models.methods.latent_variable import Gaussian
from dcorr_models.nets.initialisation import Initialisation

__all__ = ["DIPVAE", "code_covariance"]

Form = Literal["I", "II"]
DIAGONAL_OF_FORM = {"I": 10.0, "II": 1.0}


class DIPVAE(LatentVAE):
    """DIP-VAE (Kumar et al. 2018), at the networks of ID-GAN.

    The loss is `-log p(x | c) + KL + λ_od Σ_{i≠j} S_ij² + λ_d Σ_i (S_ii - 1)²` with the covariance
    S of the means of q(c | x) (form I), or of its draws (form II), over a batch.

    Args:
        image_shape: channels, height and width: 32 or 64 pixels a side, or networks of your own.
        latent_dim: size of c.
        form: `I` or `II`.
        off_diagonal_weight: λ_od.
        diagonal_weight: λ_d; None for ten times λ_od (I), or λ_od (II), as in disentanglement_lib.
        likelihood: `bernoulli`, or `gaussian`, the squared error; both are sums over an image.
        batch_size: images of an update, 2 or more.
        steps: updates.
        lr: learning rate of Adam.
        betas: its decay rates of the two moments.
        initialisation: of the weights: `dcgan`, N(0, 0.02²) with biases 0, as in ID-GAN's code;
            `default`, PyTorch's; `scaled_uniform`. Networks of your own keep their weights.
        encoder: your own encoder, images to (N, 2 · latent_dim): means, then log-variances.
        decoder: your own decoder, (N, latent_dim) to logits of images.
    """

    smallest_batch = 2

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] = (1, 64, 64),
        latent_dim: int = 10,
        form: Form = "II",
        off_diagonal_weight: float = 10.0,
        diagonal_weight: float | None = None,
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
        check_choice(form=(form, DIAGONAL_OF_FORM))
        if diagonal_weight is None:
            diagonal_weight = DIAGONAL_OF_FORM[form] * off_diagonal_weight
        check_at_least(0, off_diagonal_weight=off_diagonal_weight, diagonal_weight=diagonal_weight)
        self.form: Form = form
        self.weights = (off_diagonal_weight, diagonal_weight)

    def penalty(self, q: Gaussian, c: Tensor, step: int) -> Penalty:
        """KL, and how far the covariance is from the identity."""
        covariance = code_covariance(q, self.form)
        diagonal = covariance.diagonal()
        off = covariance.square().sum() - diagonal.square().sum()
        on = (diagonal - 1).square().sum()
        kl = kl_to_prior(q)
        parts = {"kl": kl, "off_diagonal": off, "diagonal": on}
        return Penalty(kl + self.weights[0] * off + self.weights[1] * on, parts)


def code_covariance(q: Gaussian, form: Form) -> Tensor:
    r"""The covariance of the codes of a batch.

    .. math::
        S_\mathrm{I} = \overline{\mu\mu^\top} - \bar\mu\,\bar\mu^\top, \qquad
        S_\mathrm{II} = S_\mathrm{I} + \mathrm{diag}\bigl(\overline{\sigma^2}\bigr)

    Args:
        q: of N images.
        form: `I`, of the means; `II`, of codes drawn.

    Returns:
        (D, D), divided by N, not by N - 1.

    Reference:
        Kumar et al. 2018, section 3: DIP-VAE-I and DIP-VAE-II.

    Example:
        >>> q = Gaussian(torch.tensor([[0.0, 0.0], [2.0, 2.0]]), torch.zeros(2, 2))
        >>> code_covariance(q, "I").tolist(), code_covariance(q, "II").tolist()
        ([[1.0, 1.0], [1.0, 1.0]], [[2.0, 1.0], [1.0, 2.0]])
    """
    centred = q.mean - q.mean.mean(dim=0)
    covariance = centred.T @ centred / len(centred)
    if form == "II":
        covariance = covariance + torch.diag(q.logvar.exp().mean(dim=0))
    return covariance
