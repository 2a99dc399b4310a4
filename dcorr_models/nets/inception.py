"""Inception-v3 of torchvision before its last layer, for Fréchet distances of photographs."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from dcorr_models.errors import UserError
from dcorr_models.nets.feature_taps import NORMALISATIONS

__all__ = ["Inception", "inception_v3"]

_SIDE = 299


class Inception(nn.Module):
    """Images in their range to 2,048 features, the mean over places of the last maps.

    Grey images become three equal channels; images are resized to 299 pixels, bilinearly.

    Args:
        network: Takes normalised images (N, 3, 299, 299).
        value_range: Lowest and highest value of the images.
    """

    name = "Inception-v3 of torchvision, its ImageNet weights, pooled features"
    """These are not the weights that published FIDs are taken with, so neither are the numbers."""

    def __init__(self, network: nn.Module, value_range: tuple[float, float]) -> None:
        super().__init__()
        self.network = network
        self.low, self.high = value_range

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1 or 3, H, W) -> (N, F)."""
        images = (images - self.low) / (self.high - self.low)
        images = images.expand(-1, 3, -1, -1)
        images = F.interpolate(
            images, size=(_SIDE, _SIDE), mode="bilinear", align_corners=False, antialias=True
        )
        seen = NORMALISATIONS["imagenet"]
        mean, std = (images.new_tensor(row)[:, None, None] for row in (seen.mean, seen.std))
        features: Tensor = self.network((images - mean) / std)
        return features


def inception_v3(*, value_range: tuple[float, float]) -> Inception:
    """The network with torchvision's weights, which torchvision downloads where it may.

    Raises:
        UserError: torchvision is not installed.
    """
    try:
        from torchvision.models import inception_v3 as make
    except ImportError as error:
        raise UserError(
            "inception_v3 needs torchvision, of a build that fits your torch: install it, or choose"
            " other features"
        ) from error
    network: nn.Module = make(weights="IMAGENET1K_V1")
    network.fc = nn.Identity()
    inception = Inception(network, value_range).requires_grad_(False)
    inception.eval()
    return inception
