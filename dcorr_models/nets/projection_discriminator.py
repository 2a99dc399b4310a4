"""The projection discriminator with spectral norm: Lr-LiVAE's, and that of its rivals.

Miyato and Koyama 2018, "cGANs with projection discriminator"; Miyato et al. 2018, "Spectral
normalization for generative adversarial networks".
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

__all__ = ["CriticArchitecture", "Judgement", "ProjectionDiscriminator", "spectral_norm"]


class CriticArchitecture(NamedTuple):
    """Widths of a projection discriminator.

    `convolutions` are pairs (channels, stride) of 3x3 convolutions; none for points. `dense` are
    the widths of the dense layers after the mean over all places. `slope` is of the LeakyReLUs.
    """

    convolutions: tuple[tuple[int, int], ...]
    dense: tuple[int, ...]
    slope: float = 0.1


class Judgement(NamedTuple):
    """What a discriminator says of a batch."""

    logits: Tensor  # (N,)
    features: Tensor  # (N, width of the last dense layer)


class ProjectionDiscriminator(nn.Module):
    r"""(images, classes) to one logit each, :math:`w^T f(x) + b + \langle e_y, f(x) \rangle`.

    All layers and the embedding :math:`e` have spectral norm. An image of class -1, none, has the
    part without the class alone. Convolutions and dense layers start at N(0, 0.02²) and biases at
    0, as in Lr-LiVAE's published code.

    Args:
        image_shape: channels, height and width; points are images of (features, 1, 1).
        sizes: the architecture.
        num_classes: classes of the embedding.

    Example:
        >>> sizes = CriticArchitecture(convolutions=((4, 2), (8, 1)), dense=(6,))
        >>> net = ProjectionDiscriminator((1, 8, 8), sizes, num_classes=3)
        >>> judged = net(torch.zeros(2, 1, 8, 8), torch.tensor([2, -1]))
        >>> judged.logits.shape, judged.features.shape
        (torch.Size([2]), torch.Size([2, 6]))
    """

    def __init__(
        self, image_shape: tuple[int, int, int], sizes: CriticArchitecture, num_classes: int
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = image_shape[0]
        for channels, stride in sizes.convolutions:
            layers += [nn.Conv2d(width, channels, 3, stride, 1), nn.LeakyReLU(sizes.slope)]
            width = channels
        if sizes.convolutions:
            layers += [nn.AdaptiveAvgPool2d(1)]
        else:
            width = math.prod(image_shape)
        layers += [nn.Flatten()]
        for a, b in itertools.pairwise((width, *sizes.dense)):
            layers += [nn.Linear(a, b), nn.LeakyReLU(sizes.slope)]
        self.features = nn.Sequential(*layers)
        self.logit = nn.Linear((width, *sizes.dense)[-1], 1)
        self.embedding = nn.Embedding(num_classes, self.logit.in_features)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
                if not isinstance(module, nn.Embedding) and module.bias is not None:
                    nn.init.zeros_(module.bias)
                spectral_norm(module)

    def forward(self, images: Tensor, labels: Tensor) -> Judgement:
        """(N, C, H, W) images and their classes (N,), -1 for none."""
        features = self.features(images)
        # Index 0 stands in for "none", so that there is always a row to look up.
        projected = (self.embedding(labels.clamp(min=0)) * features).sum(dim=1)
        known = (labels >= 0).to(features.dtype)
        return Judgement(self.logit(features).squeeze(1) + known * projected, features)


def spectral_norm(layer: nn.Module) -> nn.Module:
    """Divides a layer's weight by its largest singular value, as PyTorch's own form does.

    One power iteration a training pass, none in evaluation. The products are taken outside of
    autocast: the largest singular value would be rounded, and every weight is divided by it.

    Args:
        layer: with a `weight` of two dimensions or more, the first of which is the output.

    Example:
        >>> layer = spectral_norm(nn.Linear(3, 3, bias=False))
        >>> for _ in range(200):
        ...     _ = layer(torch.ones(1, 3))
        >>> round(torch.linalg.matrix_norm(layer.weight, 2).item(), 3)
        1.0
    """
    parametrizations.spectral_norm(layer)
    steps = layer.get_submodule("parametrizations.weight")
    assert isinstance(steps, nn.ModuleList)
    steps[0] = _OutsideAutocast(steps[0])
    return layer


class _OutsideAutocast(nn.Module):
    def __init__(self, step: nn.Module) -> None:
        super().__init__()
        self.step = step

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            result: Tensor = self.step(weight)
        return result
