"""FactorVAE's critic: codes of images, or codes whose dimensions were shuffled apart?"""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["TotalCorrelationCritic", "log_density_ratio"]


class TotalCorrelationCritic(nn.Sequential):
    """Codes to two logits: class 0 for codes of images, class 1 for shuffled ones.

    Args:
        latent_dim: size of the code.
        width: units of each hidden layer.
        depth: hidden layers, each followed by a LeakyReLU.
        slope: of these.

    Example:
        >>> import torch
        >>> TotalCorrelationCritic(10, width=16)(torch.zeros(3, 10)).shape
        torch.Size([3, 2])
    """

    def __init__(
        self, latent_dim: int, *, width: int = 1000, depth: int = 6, slope: float = 0.2
    ) -> None:
        layers: list[nn.Module] = []
        for place in range(depth):
            layers += [nn.Linear(width if place else latent_dim, width), nn.LeakyReLU(slope)]
        super().__init__(*layers, nn.Linear(width if depth else latent_dim, 2))


def log_density_ratio(logits: Tensor) -> Tensor:
    """Each code's log q(z) - log Π q(z_d), as a critic that knew it would say: logit 0 - logit 1.

    Example:
        >>> import torch
        >>> log_density_ratio(torch.tensor([[3.0, 1.0]])).tolist()
        [2.0]
    """
    return logits[:, 0] - logits[:, 1]
