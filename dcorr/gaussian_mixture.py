"""Gaussian-mixture (GM) loss: codes that classify, and follow one learned Gaussian per class."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcorr._checks import (
    broadcast_batch,
    check_finite_values,
    check_flag,
    check_generator,
    check_integer,
    check_number,
    check_same_kind,
    check_weights,
)
from dcorr._reduction import check_reduction, reduce_batch
from dcorr.mixture_density import (
    HALF_LOG_2PI,
    Mixture,
    check_priors,
    class_log_posteriors,
    half_log_determinants,
    half_squared_distances,
    mixture_log_density,
    prepare,
    total_gaussian,
    total_log_density,
)


def gm_loss(
    z: Tensor,
    labels: Tensor,
    means: Tensor,
    log_variances: Tensor,
    *,
    margin: float = 0.0,
    likelihood_weight: float = 0.1,
    priors: Tensor | None = None,
    weights: Tensor | None = None,
    check_finite: bool = False,
) -> Tensor:
    r"""Classification by a Gaussian mixture, plus the likelihood of each code in its own class.

    .. math:: L_{GM} = L_{cls} + \lambda_{lkd} L_{lkd}

    with the two terms of :func:`gm_loss_terms`.

    Args:
        z: ``(*batch, n, d)`` or ``(n,)``, which is read as ``(n, 1)``; floating point.
        labels: ``(n,)`` or ``(*batch, n)``, an integer dtype, 0..C-1; the values are not checked
            here, see :func:`gm_loss_terms`.
        means: ``(*batch, C, d)``, the class means.
        log_variances: shape of ``means``, the logarithms of the class variances.
        margin: the margin α >= 0; 0 as in Lr-LiVAE, 0.1 in the published code of Wan et al.
        likelihood_weight: λ_lkd >= 0; 0.1 as in Lr-LiVAE, 0.01 in the published code of Wan et al.
        priors: ``(C,)`` class probabilities, divided by their sum; ``None`` is 1/C each.
        weights: ``(n,)`` or ``(*batch, n)`` sample weights, divided by their sum; ``None`` weighs
            every sample alike.
        check_finite: raise on NaN or infinity in the tensors of numbers.

    Returns:
        Tensor of shape ``batch``, in nats, in the dtype of ``z`` (float32 for half precision under
        autocast). L_cls >= 0; L_lkd is a density and can be negative, so the loss has no lower
        bound unless the variances have one.

    Raises:
        TypeError: if a tensor has the wrong kind of dtype, or the dtypes differ.
        ValueError: if shapes or devices do not fit, or an option is negative.

    Gradient:
        Smooth, of any order, in every tensor of numbers; there are no ties.

    Reference:
        Wan et al. 2018, "Rethinking feature distribution for loss functions in image
        classification"; Zheng and Sun 2019, Lr-LiVAE, Eq. (9).

    Example:
        >>> z, labels = torch.tensor([[1.0], [-1.0]]), torch.tensor([0, 1])
        >>> means, log_variances = torch.tensor([[1.0], [-1.0]]), torch.zeros(2, 1)
        >>> round(gm_loss(z, labels, means, log_variances).item(), 4)  # log(1 + e⁻²) + 0.9189 / 10
        0.2188
    """
    check_number("likelihood_weight", likelihood_weight, low=0.0, open_high=True)
    classification, likelihood = gm_loss_terms(
        z,
        labels,
        means,
        log_variances,
        margin=margin,
        priors=priors,
        weights=weights,
        check_finite=check_finite,
    )
    return classification + likelihood_weight * likelihood


def gm_loss_terms(
    z: Tensor,
    labels: Tensor,
    means: Tensor,
    log_variances: Tensor,
    *,
    margin: float = 0.0,
    priors: Tensor | None = None,
    weights: Tensor | None = None,
    check_finite: bool = False,
) -> tuple[Tensor, Tensor]:
    r"""The two terms of the GM loss, to be weighted and logged apart.

    .. math::
        L_{cls} &= -\frac1n \sum_{m=1}^n \log
        \frac{p(y_m) |\Sigma_{y_m}|^{-1/2} e^{-(1 + \alpha) d_{m y_m}}}
        {\sum_c p(c) |\Sigma_c|^{-1/2} e^{-(1 + \alpha [c = y_m]) d_{mc}}} \\
        L_{lkd} &= -\frac1n \sum_{m=1}^n \log \mathcal N(z_m; \mu_{y_m}, \Sigma_{y_m})

    with :math:`d_{mc} = \frac12 \sum_i (z_{mi} - \mu_{ci})^2 / \sigma_{ci}^2`. The margin α moves a
    code away from its own class by :math:`\alpha d_{m y_m}`: it must be 1 + α times closer, in
    squared distance, than without. All is computed from logarithms: nothing under- or overflows
    where the densities themselves would.

    Args:
        z: ``(*batch, n, d)`` or ``(n,)``, which is read as ``(n, 1)``; n >= 1, d >= 1, floating
            point. Half precision is computed in float32.
        labels: ``(n,)`` or ``(*batch, n)``, an integer dtype, values 0..C-1. The values are not
            checked here: another one raises from torch on the CPU and ends in a device-side assert
            on CUDA.
        means: ``(*batch, C, d)``, the class means.
        log_variances: shape of ``means``, the logarithms of the class variances.
        margin: α >= 0.
        priors: ``(C,)`` class probabilities, divided by their sum; ``None`` is 1/C each.
        weights: ``(n,)`` or ``(*batch, n)`` sample weights, divided by their sum; ``None`` weighs
            every sample alike.
        check_finite: raise on NaN or infinity in the tensors of numbers. Off by default, since
            looking at values makes a GPU wait; NaN in then gives NaN out.

    Returns:
        ``(L_cls, L_lkd)``, each of shape ``batch``, in nats. L_cls >= 0; L_lkd has any sign.

    Raises:
        TypeError: if a tensor has the wrong kind of dtype, or the dtypes differ.
        ValueError: if shapes or devices do not fit, or ``margin`` is negative.

    Gradient:
        Smooth, of any order, in every tensor of numbers; there are no ties.

    Reference:
        Wan et al. 2018, the section on the large-margin GM loss; Zheng and Sun 2019, Lr-LiVAE,
        Eq. (8) for L_cls (without margin) and Eq. (7) for L_lkd.

    Example:
        >>> z, labels = torch.tensor([[1.0], [-1.0]]), torch.tensor([0, 1])
        >>> terms = gm_loss_terms(z, labels, torch.tensor([[1.0], [-1.0]]), torch.zeros(2, 1))
        >>> [round(term.item(), 4) for term in terms]  # log(1 + e⁻²) and ½ log 2π
        [0.1269, 0.9189]
    """
    mix = prepare(z, means, log_variances, priors)
    _check_sample_labels(labels, mix.z)
    check_number("margin", margin, low=0.0, open_high=True)
    if weights is not None:
        check_weights(weights, mix.z.shape[:-2], mix.z.shape[-2])
        check_same_kind(z=z, weights=weights)
    check_flag("check_finite", check_finite)
    if check_finite:
        check_finite_values(
            z=z, means=means, log_variances=log_variances, priors=priors, weights=weights
        )
    classification, likelihood = _per_sample_terms(mix, labels, margin)
    return (
        _average(classification, weights).to(mix.narrow),
        _average(likelihood, weights).to(mix.narrow),
    )


class GaussianMixtureLoss(nn.Module):
    r"""The GM loss with its learned class means and diagonal variances.

    ``means`` starts Xavier-uniform and every variance at 1, as in the published code of Lr-LiVAE.
    The variances are :math:`\sigma^2_{\min} + e^r` with r the parameter ``raw_log_variances``. The
    floor is not in the paper: without one the likelihood term falls for ever once the codes of a
    class meet in one point, until the precisions overflow.

    Args:
        num_classes: C >= 1.
        dim: d >= 1, the number of features of a code.
        margin: α of :func:`gm_loss_terms`; 0 is the choice of Lr-LiVAE.
        likelihood_weight: λ_lkd of :func:`gm_loss`; 0.1 is the choice of Lr-LiVAE.
        priors: C class probabilities, stored as a buffer; ``None`` is 1/C each, as in the paper.
        min_variance: floor of the variances, in the squared unit of the code; 0 for none.
        reduction: ``"mean"`` or ``"sum"`` over the batch dimensions, or ``"none"``; samples are
            always averaged.
        check_finite: as in :func:`gm_loss_terms`.
        device: device of the parameters.
        dtype: dtype of the parameters.

    Example:
        >>> gm = GaussianMixtureLoss(num_classes=3, dim=2)
        >>> z, labels = torch.randn(8, 2), torch.randint(3, (8,))
        >>> gm(z, labels).shape, gm.log_posteriors(z).shape, gm.sample(labels).shape
        (torch.Size([]), torch.Size([8, 3]), torch.Size([8, 2]))
    """

    def __init__(
        self,
        num_classes: int,
        dim: int,
        *,
        margin: float = 0.0,
        likelihood_weight: float = 0.1,
        priors: Tensor | Sequence[float] | None = None,
        min_variance: float = 1e-6,
        reduction: str = "mean",
        check_finite: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_integer("num_classes", num_classes, low=1)
        check_integer("dim", dim, low=1)
        check_number("margin", margin, low=0.0, open_high=True)
        check_number("likelihood_weight", likelihood_weight, low=0.0, open_high=True)
        check_number("min_variance", min_variance, low=0.0, open_high=True)
        check_reduction(reduction)
        check_flag("check_finite", check_finite)
        self.num_classes = num_classes
        self.dim = dim
        self.margin = margin
        self.likelihood_weight = likelihood_weight
        self.min_variance = min_variance
        self.reduction = reduction
        self.check_finite = check_finite
        self.means = nn.Parameter(torch.empty(num_classes, dim, device=device, dtype=dtype))
        self.raw_log_variances = nn.Parameter(torch.empty_like(self.means))
        self.priors: Tensor | None
        if priors is not None:
            priors = torch.as_tensor(priors, device=device, dtype=self.means.dtype).clone()
        check_priors(priors, self.means)
        self.register_buffer("priors", priors)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new means, and set every variance to 1 (plus the floor)."""
        nn.init.xavier_uniform_(self.means)
        nn.init.zeros_(self.raw_log_variances)

    @property
    def log_variances(self) -> Tensor:
        """Logarithms of the class variances, ``(C, d)``, with the floor in them."""
        raw = self.raw_log_variances
        if self.min_variance == 0:
            return raw
        return torch.logaddexp(raw, torch.full_like(raw, math.log(self.min_variance)))

    def terms(
        self, z: Tensor, labels: Tensor, *, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return L_cls and L_lkd, reduced over the batch dimensions; see :func:`gm_loss_terms`."""
        classification, likelihood = gm_loss_terms(
            z,
            labels,
            self.means,
            self.log_variances,
            margin=self.margin,
            priors=self.priors,
            weights=weights,
            check_finite=self.check_finite,
        )
        return (
            reduce_batch(classification, self.reduction),
            reduce_batch(likelihood, self.reduction),
        )

    def forward(self, z: Tensor, labels: Tensor, *, weights: Tensor | None = None) -> Tensor:
        """Return L_cls + λ_lkd L_lkd, reduced over the batch dimensions; see :func:`gm_loss`."""
        classification, likelihood = self.terms(z, labels, weights=weights)
        return classification + self.likelihood_weight * likelihood

    def log_posteriors(self, z: Tensor) -> Tensor:
        """Return log q(c | z), ``(*batch, n, C)``, without margin: the classifier.

        See :func:`~dcorr.mixture_density.class_log_posteriors`.
        """
        return class_log_posteriors(z, self.means, self.log_variances, priors=self.priors)

    def log_density(self, z: Tensor) -> Tensor:
        """Return log p(z) of the mixture, ``(*batch, n)``: unlabelled samples of known classes.

        Their loss is ``-gm.log_density(z).mean()``; see
        :func:`~dcorr.mixture_density.mixture_log_density`.
        """
        return mixture_log_density(z, self.means, self.log_variances, priors=self.priors)

    def total_gaussian(self) -> tuple[Tensor, Tensor]:
        """Return mean and variance of the whole mixture, ``(d,)`` each.

        See :func:`~dcorr.mixture_density.total_gaussian`.
        """
        return total_gaussian(self.means, self.log_variances, priors=self.priors)

    def total_log_density(self, z: Tensor) -> Tensor:
        """Return log N(z; μ_t, Σ_t), ``(*batch, n)``: unlabelled samples of unknown classes.

        Their loss is ``-gm.total_log_density(z).mean()``; see
        :func:`~dcorr.mixture_density.total_log_density`.
        """
        return total_log_density(z, self.means, self.log_variances, priors=self.priors)

    def sample(self, labels: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        r"""Draw one code per label, :math:`\mu_y + \sigma_y \epsilon`, ``(*labels.shape, d)``.

        The gradient flows to means and variances; put ``torch.no_grad()`` around it to stop that.
        Labels outside 0..C-1 raise from torch on the CPU and end in a device-side assert on CUDA.

        Args:
            labels: classes, any shape, an integer dtype, on the device of the parameters.
            generator: source of the noise, on the device of ``labels``; ``None`` is torch's own.
        """
        _check_labels(labels, self.means.device)
        check_generator(generator, self.means.device)
        y = labels.long()
        mean = F.embedding(y, self.means)
        deviation = F.embedding(y, (0.5 * self.log_variances).exp())
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
        return mean + deviation * noise

    def extra_repr(self) -> str:
        """Show the settings when the module is printed."""
        return (
            f"num_classes={self.num_classes}, dim={self.dim}, margin={self.margin:g}, "
            f"likelihood_weight={self.likelihood_weight:g}, min_variance={self.min_variance:g}, "
            f"reduction={self.reduction!r}, check_finite={self.check_finite}"
        )


def _per_sample_terms(mix: Mixture, labels: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """L_cls and L_lkd of each sample, (*B, N)."""
    distances, determinants = half_squared_distances(mix), half_log_determinants(mix)
    shape = broadcast_batch(distances=distances.shape[:-1], labels=labels.shape)
    distances = distances.expand(*shape, distances.shape[-1])  # (*B, N, C)
    own = labels.long().expand(shape).unsqueeze(-1)  # (*B, N, 1)
    logits = mix.log_priors - determinants - distances
    if margin > 0:
        is_own = own == torch.arange(distances.shape[-1], device=own.device)
        logits = logits - margin * torch.where(is_own, distances, 0.0)
    classification = -logits.log_softmax(dim=-1).gather(-1, own)
    likelihood = (distances + determinants).gather(-1, own) + mix.z.shape[-1] * HALF_LOG_2PI
    return classification.squeeze(-1), likelihood.squeeze(-1)


def _average(values: Tensor, weights: Tensor | None) -> Tensor:
    """Mean over the samples, weighted where weights are given."""
    if weights is None:
        return values.mean(dim=-1)
    w = weights.to(values.dtype)
    return (w * values).sum(dim=-1) / w.sum(dim=-1)


def _check_labels(labels: object, device: torch.device) -> None:
    """Refuse labels that are no tensor of integers on ``device``."""
    if not isinstance(labels, Tensor):
        raise TypeError(f"labels must be a torch.Tensor, got {type(labels).__name__}")
    if labels.dtype.is_floating_point or labels.dtype.is_complex or labels.dtype == torch.bool:
        raise TypeError(f"labels must have an integer dtype, got {labels.dtype}")
    if labels.device != device:
        raise ValueError(f"labels must be on the device {device}, got {labels.device}")


def _check_sample_labels(labels: Tensor, z: Tensor) -> None:
    """Refuse labels that do not give one class to each sample of ``z``, (*batch, n, d)."""
    _check_labels(labels, z.device)
    n = z.shape[-2]
    if labels.ndim == 0 or labels.shape[-1] != n:
        raise ValueError(
            f"labels must have shape (n,) or (*batch, n) with n = {n}, got {tuple(labels.shape)}"
        )
    broadcast_batch(z=z.shape[:-2], labels=labels.shape[:-1])
