"""The class Gaussians of Lr-LiVAE: the GM loss in both forms, for classes that have images."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcorr import GaussianMixtureLoss
from dcorr.mixture_density import half_squared_distances, prepare

__all__ = ["ClassGaussians", "GmForm", "LearnedSpread"]

GmForm = Literal["log", "probability"]
LearnedSpread = Literal["variances", "precisions"]


class _PrecisionMixture(GaussianMixtureLoss):
    """The same with raw precisions for parameters, as in the published code of Lr-LiVAE.

    Precision = softplus(raw), which starts at softplus(0.54) = 0.9992; no floor of the variances.
    """

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.constant_(self.raw_log_variances, 0.54)

    @property
    def log_variances(self) -> Tensor:
        return -F.softplus(self.raw_log_variances).log()


class ClassGaussians(nn.Module):
    r"""One Gaussian with a diagonal covariance for each class; L_cls and L_lkd of codes.

    `probability` is the published code's loss, kept to be compared with,

    .. math::
        L_{cls} = -\log\Big(\frac{p_y}{\sum_k p_k + 10^{-8}} + 10^{-4}\Big), \quad
        L_{lkd} = d_y - \tfrac12 \log\Big(\prod_i \pi_{yi} + 10^{-4}\Big), \quad
        p_k = e^{-d_k} \sqrt{\textstyle\prod_i \pi_{ki}}

    with precisions :math:`\pi`; it has no gradient where all :math:`p_k` round to 0. `log` is
    `dcorr.gm_loss_terms`. Classes that `meet` found no label of have no part in either, nor in
    the prior.

    Args:
        num_classes: classes.
        dim: size of the code.
        form: of the loss.
        learned: the parameters are log-variances, or precisions before a softplus.

    Example:
        >>> gaussians = ClassGaussians(3, 2)
        >>> z, labels = torch.zeros(4, 2), torch.tensor([0, 1, 1, 0])
        >>> gaussians.meet(labels)
        >>> gaussians.seen.tolist()
        [True, True, False]
        >>> [term.shape for term in gaussians(z, labels)]
        [torch.Size([]), torch.Size([])]
    """

    seen: Tensor

    def __init__(
        self,
        num_classes: int,
        dim: int,
        *,
        form: GmForm = "log",
        learned: LearnedSpread = "variances",
    ) -> None:
        super().__init__()
        kind = GaussianMixtureLoss if learned == "variances" else _PrecisionMixture
        self.form = form
        self.mixture = kind(num_classes, dim, priors=[1 / num_classes] * num_classes)
        self.register_buffer("seen", torch.ones(num_classes, dtype=torch.bool))

    @property
    def priors(self) -> Tensor:
        """(C,) equal probabilities of the classes that have images, 0 for the others."""
        assert self.mixture.priors is not None
        return self.mixture.priors

    def meet(self, labels: Tensor) -> None:
        """Takes note of the classes of the training images; -1 is none."""
        self.seen.zero_()
        self.seen[labels[labels >= 0].to(self.seen.device)] = True
        self.priors.copy_(self.seen / self.seen.sum())

    def forward(self, z: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """L_cls and L_lkd, each the mean over (N, D) codes with labels (N,)."""
        z = z.to(self.mixture.means.dtype)
        if self.form == "probability":
            return self._from_probabilities(z, labels)
        return self.mixture.terms(z, labels)

    def unlabelled(self, z: Tensor, *, known: bool) -> Tensor:
        """-log p of each of (N, D) codes: the mixture if `known`, the total Gaussian otherwise."""
        density = self.mixture.log_density if known else self.mixture.total_log_density
        return -density(z.to(self.mixture.means.dtype))

    def vectors(self) -> Tensor:
        """(C, D) means; NaN for classes without images."""
        return torch.where(self.seen[:, None], self.mixture.means, torch.nan)

    def _from_probabilities(self, z: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        log_variances = self.mixture.log_variances
        distances = half_squared_distances(prepare(z, self.mixture.means, log_variances))  # (N, C)
        determinants = (-log_variances).exp().prod(dim=1)  # (C,), of the precisions
        p = (-distances).exp() * determinants.sqrt() * self.seen
        own = labels[:, None]
        posterior = p.gather(1, own) / (p.sum(dim=1, keepdim=True) + 1e-8)
        likelihood = distances.gather(1, own) - 0.5 * (determinants[own] + 1e-4).log()
        return -(posterior + 1e-4).log().mean(), likelihood.mean()
