"""Asymmetric-noise regulariser of LORD: noise of a fixed variance, and a penalty on the code."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dcorr._checks import (
    as_samples,
    check_choice,
    check_finite_values,
    check_flag,
    check_generator,
    check_number,
    compute_dtype,
    result_dtype,
)
from dcorr._reduction import check_reduction, reduce_batch

PENALISED = ("clean", "noisy")


def asymmetric_noise(
    z: Tensor,
    *,
    sigma: float = 1.0,
    decay: float = 1e-3,
    on: str = "clean",
    training: bool = True,
    generator: torch.Generator | None = None,
    check_finite: bool = False,
) -> tuple[Tensor, Tensor]:
    r"""Add Gaussian noise of a fixed variance to a code, and penalise the size of the code.

    .. math::
        \tilde z_m = z_m + \zeta_m, \quad \zeta_m \sim \mathcal N(0, \sigma^2 I), \qquad
        \mathrm{penalty} = \frac{\lambda}{n} \sum_{m=1}^{n} \lVert z_m \rVert^2

    The square is summed over the features and averaged over the samples. The noise limits what a
    code of a given size can carry, and the penalty keeps the code from outgrowing the noise. As the
    variance is not learned, no feature can escape by making its own noise small.

    Args:
        z: the code, ``(*batch, n, p)`` or ``(n,)``, which is read as ``(n, 1)``; n >= 1, p >= 1, a
            floating-point dtype. The penalty of half precision is computed in float32.
        sigma: standard deviation σ >= 0 of the noise; 0 draws none.
        decay: weight λ >= 0 of the penalty; 1 returns the mean squared norm itself.
        on: ``"clean"`` penalises z, as the paper does; ``"noisy"`` penalises z + ζ, which another
            published form does. That adds the constant λ p σ² to the expected penalty, leaves its
            expected gradient as it is, and makes both noisier.
        training: False adds no noise; the penalty, then of z in both forms, is still returned.
        generator: source of the noise, on the device of ``z``; ``None`` is torch's own.
        check_finite: raise on NaN or infinity in ``z``. Off by default, since looking at values
            makes a GPU wait; NaN in then gives NaN out.

    Returns:
        The code to decode, of the shape and dtype of ``z``, and the penalty, of shape ``batch``,
        >= 0, in (unit of z)², in the dtype of ``z`` (float32 for half precision under autocast).

    Raises:
        TypeError: if ``z`` is no dense floating-point tensor or an option has the wrong type.
        ValueError: if ``z`` is a scalar or has no samples or features, ``sigma`` or ``decay`` is
            negative, ``on`` is unknown, or the generator is on another device.

    Gradient:
        The noise is a constant: the gradient passes to ``z`` unchanged. That of the penalty is
        2λz/n, with z + ζ in place of z where the noisy code is penalised. There are no ties; at
        z = 0 the gradient is 0.

    Note:
        Under :func:`torch.vmap` state ``randomness="different"``. :func:`torch.compile` cannot
        trace a generator: leave it ``None`` there, or accept a graph break.

    Reference:
        Gabbay and Hoshen 2020, LORD, Eq. (6); λ and σ from Appendix A.1.

    Example:
        >>> z = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
        >>> noisy, penalty = asymmetric_noise(z, decay=1.0)
        >>> noisy.shape, round(penalty.item(), 4)  # (25 + 1) / 2
        (torch.Size([2, 2]), 13.0)
    """
    samples = as_samples("z", z)
    _check_settings(sigma, decay, on)
    check_flag("training", training)
    check_generator(generator, z.device)
    check_flag("check_finite", check_finite)
    if check_finite:
        check_finite_values(z=z)
    noise = None
    if training and sigma > 0:
        noise = sigma * torch.randn(
            samples.shape, generator=generator, dtype=z.dtype, device=z.device
        )
    noisy = samples if noise is None else samples + noise
    penalised = (samples if on == "clean" else noisy).to(compute_dtype(z))
    penalty = decay * penalised.square().sum(dim=-1).mean(dim=-1)
    return noisy.reshape(z.shape), penalty.to(result_dtype(z))


class AsymmetricNoise(nn.Module):
    """Module form of :func:`asymmetric_noise`, a layer between encoder and decoder.

    Noise is added in training mode only. The module has no parameters, and a generator is not part
    of its ``state_dict``: save ``generator.get_state()`` to resume a run.

    Args:
        sigma: standard deviation of the noise.
        decay: weight of the penalty.
        on: what is penalised, ``"clean"`` or ``"noisy"``.
        generator: the layer's own source of noise; ``None`` is torch's own.
        reduction: ``"mean"`` or ``"sum"`` of the penalty over the batch dimensions, or ``"none"``.
        check_finite: as in :func:`asymmetric_noise`.

    Example:
        >>> noise = AsymmetricNoise(decay=1.0).eval()
        >>> z = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
        >>> code, penalty = noise(z)
        >>> torch.equal(code, z), round(penalty.item(), 4)
        (True, 13.0)
    """

    def __init__(
        self,
        *,
        sigma: float = 1.0,
        decay: float = 1e-3,
        on: str = "clean",
        generator: torch.Generator | None = None,
        reduction: str = "mean",
        check_finite: bool = False,
    ) -> None:
        super().__init__()
        _check_settings(sigma, decay, on)
        check_generator(generator)
        check_flag("check_finite", check_finite)
        check_reduction(reduction)
        self.sigma = sigma
        self.decay = decay
        self.on = on
        self.generator = generator
        self.check_finite = check_finite
        self.reduction = reduction

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the code to decode and the reduced penalty."""
        code, penalty = asymmetric_noise(
            z,
            sigma=self.sigma,
            decay=self.decay,
            on=self.on,
            training=self.training,
            generator=self.generator,
            check_finite=self.check_finite,
        )
        return code, reduce_batch(penalty, self.reduction)

    def extra_repr(self) -> str:
        """Show the settings when the module is printed."""
        own = "" if self.generator is None else ", own generator"
        return (
            f"sigma={self.sigma:g}, decay={self.decay:g}, on={self.on!r}, "
            f"reduction={self.reduction!r}, check_finite={self.check_finite}{own}"
        )


def _check_settings(sigma: float, decay: float, on: str) -> None:
    check_number("sigma", sigma, low=0.0, open_high=True)
    check_number("decay", decay, low=0.0, open_high=True)
    check_choice("on", on, PENALISED)
