"""dCov-VAE: beta-VAE, and distance covariance between every two dimensions of the code.

No paper has it; it is here to be compared with the others. Distance covariance (Székely, Rizzo and
Bakirov 2007) is 0 exactly for independent dimensions, so no critic and no density is estimated; it
looks at pairs, which total correlation does not stop at.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from dcorr import dcor2, dcov2
from dcorr_models.methods.checks import check_at_least, check_choice
from dcorr_models.methods.latent_vae import LatentVAE, Likelihood, Penalty, kl_to_prior
from dcorr_models.methods.latent_variable import Gaussian
from dcorr_models.nets.initialisation import Initialisation

__all__ = ["DCovVAE", "pairwise_dependence"]

Statistic = Literal["dcov2", "dcor2"]
STATISTICS = {"dcov2": dcov2, "dcor2": dcor2}


class DCovVAE(LatentVAE):
    """beta-VAE with pairwise distance covariance of the latent dimensions.

    The loss is `-log p(x | c) + β KL + λ · dependence`, with `pairwise_dependence` of codes drawn.

    Args:
        image_shape: channels, height and width: 32 or 64 pixels a side, or networks of your own.
        latent_dim: size of c.
        beta: β.
        dependence_weight: λ, of a mean over the pairs: with more dimensions each pair counts less.
        statistic: `dcor2`, the squared distance correlation, in [0, 1] whatever the scale of a
            dimension; or `dcov2`, which a dimension can also lower by shrinking.
        unbiased: the U-statistic, whose mean is 0 for independent dimensions at any batch size;
            otherwise the value >= 0, whose mean is not.
        likelihood: `bernoulli`, or `gaussian`, the squared error; both are sums over an image.
        batch_size: images of an update, 4 or more.
        steps: updates.
        lr: learning rate of Adam.
        betas: its decay rates of the two moments.
        initialisation: of the weights: `dcgan`, N(0, 0.02²) with biases 0, as in ID-GAN's code;
            `default`, PyTorch's; `scaled_uniform`. Networks of your own keep their weights.
        encoder: your own encoder, images to (N, 2 · latent_dim): means, then log-variances.
        decoder: your own decoder, (N, latent_dim) to logits of images.
    """

    smallest_batch = 4

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] = (1, 64, 64),
        latent_dim: int = 10,
        beta: float = 1.0,
        dependence_weight: float = 400.0,
        statistic: Statistic = "dcor2",
        unbiased: bool = True,
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
        check_choice(statistic=(statistic, STATISTICS))
        check_at_least(0, beta=beta, dependence_weight=dependence_weight)
        check_at_least(2, latent_dim=latent_dim)
        self.beta, self.dependence_weight = beta, dependence_weight
        self.statistic: Statistic = statistic
        self.unbiased = unbiased

    def penalty(self, q: Gaussian, c: Tensor, step: int) -> Penalty:
        """β KL + λ · dependence."""
        kl = kl_to_prior(q)
        dependence = pairwise_dependence(c, self.statistic, unbiased=self.unbiased)
        parts = {"kl": kl, "dependence": dependence}
        return Penalty(self.beta * kl + self.dependence_weight * dependence, parts)


def pairwise_dependence(c: Tensor, statistic: Statistic, *, unbiased: bool = False) -> Tensor:
    r"""The mean of a statistic over all pairs of columns, computed in one call.

    .. math:: \frac{2}{D (D - 1)} \sum_{d < e} \mathrm{dCov}^2(c_{\cdot d}, c_{\cdot e})

    or dCor² likewise.

    Args:
        c: (N, D), N >= 2 (4 if unbiased), D >= 2.
        statistic: `dcov2` or `dcor2`.
        unbiased: the U-statistic.

    Returns:
        A scalar; without `unbiased` it is >= 0.

    Example:
        >>> x = torch.arange(5.0)
        >>> c = torch.stack([x, 2 * x, torch.zeros(5)], dim=1)
        >>> round(pairwise_dependence(c, "dcor2").item(), 4)  # 1, 0 and 0
        0.3333
    """
    columns = c.T[:, :, None]  # (D, N, 1)
    first, second = torch.triu_indices(len(columns), len(columns), offset=1, device=c.device)
    return STATISTICS[statistic](columns[first], columns[second], unbiased=unbiased).mean()
