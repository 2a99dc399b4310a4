"""Adversarial losses on logits, and the gate that keeps the two players in balance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "EquilibriumGate",
    "GanLoss",
    "GateDecision",
    "critic_cost",
    "generator_cost",
    "log_probability",
    "minimax_terms",
    "with_r1",
]

GanLoss = Literal["log", "hinge"]
Judged = TypeVar("Judged", bound=tuple[Tensor, ...])


def log_probability(logits: Tensor, *, epsilon: float = 0.0) -> Tensor:
    """Element-wise log(sigmoid(logits) + epsilon).

    Args:
        logits: any shape, floating point.
        epsilon: 0 is the papers' log D, computed without overflow. A positive value (CDNet's and
            VAE/GAN's code add 1e-3) bounds the result from below by log(epsilon).

    Returns:
        Same shape, at most log(1 + epsilon).

    Example:
        >>> log_probability(torch.tensor([0.0, -200.0])).tolist()
        [-0.6931471824645996, -200.0]
        >>> round(log_probability(torch.tensor(-200.0), epsilon=1e-3).item(), 4)
        -6.9078
    """
    if epsilon < 0:
        raise ValueError(f"epsilon must be 0 or more, got {epsilon}")
    if epsilon == 0:
        return F.logsigmoid(logits)
    return torch.log(torch.sigmoid(logits) + epsilon)


def minimax_terms(
    real_logits: Tensor, fake_logits: Tensor, *, epsilon: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The two halves of the minimax GAN loss, as costs of the discriminator.

        real = mean -log(D(x) + epsilon),    fake = mean -log(1 - D(x̂) + epsilon)

    The discriminator minimises `real + fake`; the saturating generator maximises it.

    Args:
        real_logits: (N, ...) discriminator logits of real images.
        fake_logits: (M, ...) discriminator logits of generated images.
        epsilon: see `log_probability`.

    Returns:
        Two scalars. With epsilon = 0 both are >= 0, and log 2 at perfect confusion.

    Reference:
        Song et al. 2020 (CDNet), Eq. 7; Larsen et al. 2016 for epsilon.

    Example:
        >>> real, fake = minimax_terms(torch.zeros(4, 1), torch.zeros(4, 1))
        >>> round(real.item(), 4), round(fake.item(), 4)
        (0.6931, 0.6931)
    """
    real = -log_probability(real_logits, epsilon=epsilon).mean()
    # 1 - sigmoid(l) = sigmoid(-l), exact where 1 - sigmoid(l) would round to 0.
    fake = -log_probability(-fake_logits, epsilon=epsilon).mean()
    return real, fake


def critic_cost(logits: Tensor, *, real: bool, form: GanLoss = "log") -> Tensor:
    """What a batch of real, or of generated, images costs the discriminator.

    With l the logit and s = 1 for real images, -1 for generated ones:

        log    mean -log sigmoid(s l)
        hinge  mean max(0, 1 - s l)

    Args:
        logits: any shape, of one kind of images.
        real: whether they are real.
        form: see above.

    Returns:
        A scalar >= 0.

    Example:
        >>> logits = torch.tensor([0.5, 2.0])
        >>> critic_cost(logits, real=True, form="hinge").item()
        0.25
        >>> critic_cost(logits, real=False, form="hinge").item()
        2.25
    """
    signed = logits if real else -logits
    cost = (1 - signed).relu() if form == "hinge" else -log_probability(signed)
    return cost.mean()


def generator_cost(logits: Tensor, *, form: GanLoss = "log") -> Tensor:
    """What a batch of generated images costs the generator, in the form that does not saturate.

        log    mean -log sigmoid(l)
        hinge  mean -l

    Args:
        logits: any shape, of generated images.
        form: see above.

    Returns:
        A scalar; >= 0 for `log`, of any sign for `hinge`.

    Example:
        >>> generator_cost(torch.tensor([0.5, 2.0]), form="hinge").item()
        -1.25
    """
    cost = -logits if form == "hinge" else -log_probability(logits)
    return cost.mean()


def with_r1(judge: Callable[[Tensor], Judged], images: Tensor) -> tuple[Judged, Tensor]:
    r"""What a critic says of real images, and the R1 penalty of its slope there.

    .. math:: \frac{1}{N} \sum_n \lVert \nabla_x D(x_n) \rVert^2

    Without the factor 1/2, and of logits; weight it and add it to the critic's one loss. It is part
    of the graph, so that its own derivative is exact, and it compiles together with the critic.

    Args:
        judge: (N, C, H, W) to a tuple whose first entry are the logits, (N,). No image's logit may
            depend on another image, and no buffer on the images: BatchNorm is refused by torch.
        images: real ones.

    Returns:
        The critic's tuple, and a scalar >= 0.

    Reference:
        Mescheder, Geiger and Nowozin 2018, "Which training methods for GANs do actually converge?",
        Eq. 9, with gamma / 2 = 1.

    Example:
        >>> images = torch.ones(4, 1, 2, 2)
        >>> judged, penalty = with_r1(lambda x: (x.square().sum(dim=(1, 2, 3)),), images)
        >>> judged[0].tolist(), penalty.item()
        ([4.0, 4.0, 4.0, 4.0], 16.0)
    """

    def split(inputs: Tensor) -> tuple[Tensor, Judged]:
        judged = judge(inputs)
        return judged[0], judged

    # Its annotation knows two results; with has_aux there are three.
    logits, pull, judged = cast(Any, torch.func.vjp)(split, images, has_aux=True)
    (slopes,) = pull(torch.ones_like(logits))
    slopes = slopes.to(torch.promote_types(slopes.dtype, torch.float32))
    return judged, slopes.square().flatten(1).sum(dim=1).mean()


class GateDecision(NamedTuple):
    """Who may learn in this step."""

    generator: bool
    discriminator: bool


class EquilibriumGate:
    """Rests the player that is ahead, as VAE/GAN's and CDNet's released code do.

    With a = mean -log D(x) and b = mean -log(1 - D(x̂)): the generator rests when a or b exceeds
    equilibrium + margin (the discriminator is behind), the discriminator rests when a or b is
    under equilibrium - margin (it is ahead). When both would rest, both learn.

    Args:
        equilibrium: centre of the band; the code's 0.68 is close to log 2.
        margin: half-width of the band; 0.35 gives the thresholds 1.03 and 0.33.

    Reference:
        Larsen et al. 2016 (VAE/GAN) and the CDNet release; not in the CDNet paper.

    Example:
        >>> gate = EquilibriumGate()
        >>> gate(0.1, 0.7)
        GateDecision(generator=True, discriminator=False)
        >>> gate(1.2, 0.1)  # both would rest
        GateDecision(generator=True, discriminator=True)
    """

    def __init__(self, equilibrium: float = 0.68, margin: float = 0.35) -> None:
        if margin < 0:
            raise ValueError(f"margin must be 0 or more, got {margin}")
        self.equilibrium = equilibrium
        self.margin = margin

    def __call__(self, real_cost: float, fake_cost: float) -> GateDecision:
        """Decides on the two costs; pass values that are equal on all processes."""
        costs = (float(real_cost), float(fake_cost))
        generator = max(costs) <= self.equilibrium + self.margin
        discriminator = min(costs) >= self.equilibrium - self.margin
        if not (generator or discriminator):
            return GateDecision(generator=True, discriminator=True)
        return GateDecision(generator=generator, discriminator=discriminator)

    def __repr__(self) -> str:
        return f"EquilibriumGate(equilibrium={self.equilibrium}, margin={self.margin})"
