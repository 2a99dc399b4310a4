"""Lr-LiVAE's networks for methods that are told the class: encoder and classifier.

In Lr-LiVAE's published code the encoder of its baselines reads the one-hot label as so many more
maps beside the image's own; the decoder is Lr-LiVAE's, with the one-hot label for a class code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dcorr_models.nets.lr_livae import Architecture, Encoder
from dcorr_models.nets.projection_discriminator import Judgement

__all__ = ["ClassEncoder", "FeatureClassifier"]


class ClassEncoder(nn.Module):
    """(images, one-hot labels) to mean and log-variance of z.

    Args:
        image_shape: channels, height and width.
        sizes: the architecture.
        latent_dim: size of z.
        num_labels: classes.

    Example:
        >>> from dcorr_models.nets.lr_livae import ARCHITECTURES
        >>> net = ClassEncoder((1, 28, 28), ARCHITECTURES["mnist_small"], 5, num_labels=3)
        >>> net(torch.zeros(2, 1, 28, 28), torch.eye(3)[:2]).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        sizes: Architecture,
        latent_dim: int,
        num_labels: int,
    ) -> None:
        super().__init__()
        heads = (latent_dim, latent_dim)
        self.network = Encoder(image_shape, sizes, heads, extra_channels=num_labels)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """(N, C, H, W), (N, K) -> (N, 2Z): means, then log-variances."""
        maps = labels[:, :, None, None].expand(-1, -1, *images.shape[2:])
        numbers: Tensor = self.network(torch.cat([images, maps.to(images.dtype)], dim=1))
        return numbers


class FeatureClassifier(nn.Module):
    """Images to logits of their classes, by Lr-LiVAE's encoder, and the features under them.

    Args:
        image_shape: channels, height and width.
        sizes: the architecture.
        num_labels: classes.

    Example:
        >>> from dcorr_models.nets.lr_livae import ARCHITECTURES
        >>> net = FeatureClassifier((1, 28, 28), ARCHITECTURES["mnist_small"], num_labels=3)
        >>> judged = net(torch.zeros(2, 1, 28, 28))
        >>> judged.logits.shape, judged.features.shape
        (torch.Size([2, 3]), torch.Size([2, 128]))
    """

    def __init__(
        self, image_shape: tuple[int, int, int], sizes: Architecture, num_labels: int
    ) -> None:
        super().__init__()
        network = Encoder(image_shape, sizes, (num_labels,))
        self.trunk, self.head = network.trunk, network.heads[0]

    def forward(self, images: Tensor) -> Judgement:
        """(N, C, H, W) -> logits (N, K), and what the last layer reads, (N, F)."""
        features = self.trunk(images)
        return Judgement(self.head(features), features)
