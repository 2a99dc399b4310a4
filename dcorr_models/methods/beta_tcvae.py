"""beta-TCVAE: the KL divergence in three terms, of which total correlation is weighted.

Chen, Li, Grosse and Duvenaud 2018, "Isolating sources of disentanglement in variational
autoencoders" (arXiv 1802.04942). Every departure is listed in `docs/methods/latent_vaes.md`.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from dcorr_models.data.base import LabelledImages
from dcorr_models.methods.checks import check_at_least, check_choice
from dcorr_models.methods.latent_vae import LatentVAE, Likelihood, Penalty, kl_to_prior
from dcorr_models.methods.latent_variable import Gaussian
from dcorr_models.methods.ml_vae import gaussian_nll
from dcorr_models.nets.initialisation import Initialisation

__all__ = ["BetaTCVAE", "KlTerms", "Sampling", "kl_terms"]

Sampling = Literal["minibatch_weighted", "minibatch_stratified"]


class BetaTCVAE(LatentVAE):
    """beta-TCVAE (Chen et al. 2018), at the networks of ID-GAN.

    The loss is `-log p(x | c) + α MI + β TC + γ Σ_d KL(q(c_d) || N(0, 1))`, with the mutual
    information MI of image and code and the total correlation TC of the codes; see `kl_terms`.

    Args:
        image_shape: channels, height and width: 32 or 64 pixels a side, or networks of your own.
        latent_dim: size of c.
        alpha: α.
        beta: β.
        gamma: γ.
        sampling: how densities of the aggregated posterior are estimated from a batch.
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
        alpha: float = 1.0,
        beta: float = 6.0,
        gamma: float = 1.0,
        sampling: Sampling = "minibatch_weighted",
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
        check_choice(sampling=(sampling, ("minibatch_weighted", "minibatch_stratified")))
        check_at_least(0, alpha=alpha, beta=beta, gamma=gamma)
        self.alpha, self.beta, self.gamma = alpha, beta, gamma
        self.sampling: Sampling = sampling
        self.num_images: int | None = None

    def meet(self, train: LabelledImages) -> None:
        """Notes the number of training images, which the estimates are made of."""
        self.num_images = len(train)

    def penalty(self, q: Gaussian, c: Tensor, step: int) -> Penalty:
        """α MI + β TC + γ dimension-wise KL."""
        assert self.num_images is not None, "meet() comes before training"
        terms = kl_terms(q, c, self.num_images, self.sampling)
        weighted = (
            self.alpha * terms.mutual_information
            + self.beta * terms.total_correlation
            + self.gamma * terms.dimensionwise_kl
        )
        return Penalty(weighted, {"kl": kl_to_prior(q), **terms._asdict()})


class KlTerms(NamedTuple):
    """What the KL divergence of q(c | x) to the prior is the sum of, in nats."""

    mutual_information: Tensor
    total_correlation: Tensor
    dimensionwise_kl: Tensor


def kl_terms(q: Gaussian, c: Tensor, num_images: int, sampling: Sampling) -> KlTerms:
    r"""The three terms, estimated from a batch of M of N images.

    .. math::
        \mathrm{MI} = \overline{\log q(c_i \mid x_i) - \log q(c_i)}, \qquad
        \mathrm{TC} = \overline{\log q(c_i) - \sum_d \log q(c_{id})}, \qquad
        \overline{\sum_d \log q(c_{id}) - \log p(c_{id})}

    with the aggregated posterior :math:`q(c_i) \approx \sum_j w_{ij}\, q(c_i \mid x_j)`. The
    weights are 1 / (N M) for `minibatch_weighted`, which underestimates log q. With
    `minibatch_stratified` they sum to one: 1/N for the image's own, (N - M') / (N M') for the
    image after it, 1/M' for the others, M' = M - 1. The terms' sum is the same with either.

    Args:
        q: of M >= 2 images.
        c: a draw of each, (M, D).
        num_images: N, M or more.
        sampling: the weights.

    Returns:
        Three scalars of any sign; their sum estimates the KL divergence.

    Reference:
        Chen et al. 2018, Eq. 2; the weights in appendix C.

    Example:
        >>> q = Gaussian(torch.zeros(4, 2), torch.zeros(4, 2))
        >>> terms = kl_terms(q, torch.zeros(4, 2), 4, "minibatch_stratified")
        >>> [round(abs(term.item()), 4) for term in terms]  # the prior, whatever the image
        [0.0, 0.0, 0.0]
    """
    mean, logvar = q.mean[None], q.logvar[None]  # (1, M, D)
    log_q = -gaussian_nll(mean, logvar, c[:, None])  # (M, M, D): of code i under image j
    log_weights = _log_weights(len(c), num_images, sampling, like=c)  # (M, M)
    joint = torch.logsumexp(log_q.sum(dim=2) + log_weights, dim=1)
    marginals = torch.logsumexp(log_q + log_weights[:, :, None], dim=1).sum(dim=1)
    zero = torch.zeros_like(c)
    own = log_q.diagonal().sum(dim=0)  # diagonal() puts the images last
    prior = -gaussian_nll(zero, zero, c).sum(dim=1)
    return KlTerms((own - joint).mean(), (joint - marginals).mean(), (marginals - prior).mean())


def _log_weights(batch: int, num_images: int, sampling: Sampling, *, like: Tensor) -> Tensor:
    """(M, M), or a number in that shape: see `kl_terms`."""
    if sampling == "minibatch_weighted":
        return like.new_full((1, 1), -math.log(num_images * batch))
    others = batch - 1
    weights = like.new_full((batch, batch), 1 / others)
    weights.fill_diagonal_(1 / num_images)
    rows = torch.arange(batch, device=like.device)
    weights[rows, (rows + 1) % batch] = (num_images - others) / (num_images * others)
    return weights.log()
