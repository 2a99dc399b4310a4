"""VAE/GAN's three networks: variational encoder, decoder, and the discriminator that sees features.

Larsen et al. 2016. `celeba` and `mnist` are the ports of CDNet's authors, `larsen` is the original
code's network for 64x64 faces.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dcorr_models.nets.blocks import conv_down, conv_up, dense
from dcorr_models.nets.cdnet import CriticOutput

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "FeatureCritic",
    "VariationalDecoder",
    "VariationalEncoder",
    "set_batch_norm",
]


@dataclass(frozen=True)
class Architecture:
    """Widths of the three networks.

    Args:
        kernel: side of the kernels of all halving and doubling convolutions.
        encoder_widths: channels after each halving convolution.
        encoder_dense: widths of the encoder's dense layers.
        decoder_dense: widths of the decoder's dense layers before the first map.
        decoder_widths: channels of the decoder's maps, each twice as large as the one before.
        decoder_conv: the image comes from a 5x5 convolution of the last map; otherwise from one
            more doubling.
        critic_widths: channels of the critic's first (full-size) convolution and of each halving.
        critic_bias: the first convolution has a bias.
        critic_dense: width of its dense layer.
        critic_norm: BatchNorm in the dense layer; otherwise dropout of 0.5.
        slope: of the leaky ReLU in encoder and critic; 0 for a ReLU.
        norm_epsilon: of BatchNorm.
        output: the decoder's last activation: `sigmoid` for images in [0, 1], `tanh` for [-1, 1].
    """

    kernel: int
    encoder_widths: tuple[int, ...]
    encoder_dense: tuple[int, ...]
    decoder_dense: tuple[int, ...]
    decoder_widths: tuple[int, ...]
    decoder_conv: bool
    critic_widths: tuple[int, ...]
    critic_bias: bool
    critic_dense: int
    critic_norm: bool
    slope: float = 0.2
    norm_epsilon: float = 1e-5
    output: str = "tanh"

    @property
    def decoder_shrink(self) -> int:
        """The side of an image over that of the decoder's first map."""
        return int(2 ** (len(self.decoder_widths) - self.decoder_conv))

    @property
    def image_multiple(self) -> int:
        """Image sides must be divisible by this."""
        halvings = max(len(self.encoder_widths), len(self.critic_widths) - 1)
        return max(int(2**halvings), self.decoder_shrink)


ARCHITECTURES = {
    "mnist": Architecture(
        4, (32, 64), (1000,), (1000,), (64, 32), False, (32, 64, 128), False, 128, True,
        output="sigmoid",
    ),
    "celeba": Architecture(
        5, (64, 128, 256), (2048, 1024), (), (256, 256, 128, 32), True,
        (32, 128, 256, 256), True, 512, False,
    ),
    "larsen": Architecture(
        5, (64, 128, 256), (1024,), (), (256, 256, 128, 32), True,
        (32, 128, 256, 256), True, 512, True, slope=0.0, norm_epsilon=1e-6,
    ),
    # Not from the papers: CelebA's depth at widths that two CPU cores train in minutes.
    "faces_small": Architecture(
        4, (16, 32, 64), (256,), (), (64, 64, 32, 16), True, (8, 16, 32, 64), True, 64, False
    ),
}  # fmt: skip


def set_batch_norm(network: nn.Module, *, momentum: float, epsilon: float) -> None:
    """Sets both numbers in every BatchNorm of a network.

    Args:
        network: changed in place.
        momentum: the share of the new batch in the running statistics.
        epsilon: added to the variance.
    """
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.momentum, layer.eps = momentum, epsilon


class VariationalEncoder(nn.Module):
    """Image to the mean and the log-variance of q(z | x).

    Args:
        image_shape: (channels, height, width).
        architecture: widths.
        latent_dim: size of z.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], architecture: Architecture, latent_dim: int
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        widths, slope = (channels, *architecture.encoder_widths), architecture.slope
        self.convolutions = nn.Sequential(
            *(
                conv_down(a, b, kernel=architecture.kernel, slope=slope)
                for a, b in itertools.pairwise(widths)
            )
        )
        shrink = 2 ** len(architecture.encoder_widths)
        flat = widths[-1] * (height // shrink) * (width // shrink)
        sizes = (flat, *architecture.encoder_dense)
        self.dense = nn.Sequential(
            *(_dense(a, b, nn.LeakyReLU(slope)) for a, b in itertools.pairwise(sizes))
        )
        self.mean = nn.Linear(sizes[-1], latent_dim)
        self.log_variance = nn.Linear(sizes[-1], latent_dim)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 2 * latent_dim): the means, then the log-variances."""
        h = self.dense(self.convolutions(images).flatten(1))
        return torch.cat([self.mean(h), self.log_variance(h)], dim=1)


class VariationalDecoder(nn.Module):
    """z to image.

    Args:
        image_shape: (channels, height, width).
        architecture: widths.
        latent_dim: size of z.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], architecture: Architecture, latent_dim: int
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        shrink, widths = architecture.decoder_shrink, architecture.decoder_widths
        self.first_map = (widths[0], height // shrink, width // shrink)
        flat = widths[0] * (height // shrink) * (width // shrink)
        sizes = (latent_dim, *architecture.decoder_dense, flat)
        self.dense = nn.Sequential(*(_dense(a, b, nn.ReLU()) for a, b in itertools.pairwise(sizes)))
        self.up = nn.Sequential(
            *(conv_up(a, b, kernel=architecture.kernel) for a, b in itertools.pairwise(widths))
        )
        self.output = (
            nn.Conv2d(widths[-1], channels, 5, padding=2)
            if architecture.decoder_conv
            else nn.ConvTranspose2d(widths[-1], channels, 4, stride=2, padding=1)
        )
        self.activation = nn.Sigmoid() if architecture.output == "sigmoid" else nn.Tanh()

    def forward(self, codes: Tensor) -> Tensor:
        """(N, latent_dim) -> (N, C, H, W)."""
        maps = self.dense(codes).reshape(-1, *self.first_map)
        image: Tensor = self.activation(self.output(self.up(maps)))
        return image


class FeatureCritic(nn.Module):
    """The discriminator: a logit, and the features that reconstructions are compared in.

    Args:
        image_shape: (channels, height, width).
        architecture: widths.
        feature_layer: which halving convolution's output, before its BatchNorm, is the features:
            from 1 on; 0 for the last one.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], architecture: Architecture, feature_layer: int = 0
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        widths, slope = architecture.critic_widths, architecture.slope
        self.first = nn.Sequential(
            nn.Conv2d(channels, widths[0], 5, padding=2, bias=architecture.critic_bias),
            nn.LeakyReLU(slope),
        )
        blocks = [
            conv_down(a, b, kernel=architecture.kernel, slope=slope)
            for a, b in itertools.pairwise(widths)
        ]
        place = (feature_layer or len(blocks)) - 1
        self.trunk = nn.Sequential(*blocks[:place])
        self.feature_conv = blocks[place][0]
        self.feature_rest = nn.Sequential(blocks[place][1:], *blocks[place + 1 :])
        shrink = 2 ** len(blocks)
        flat = widths[-1] * (height // shrink) * (width // shrink)
        hidden = architecture.critic_dense
        self.head = nn.Sequential(
            _dense(flat, hidden, nn.LeakyReLU(slope))
            if architecture.critic_norm
            else dense(flat, hidden, dropout=0.5, slope=slope),
            nn.Linear(hidden, 1),
        )

    def forward(self, images: Tensor) -> CriticOutput:
        """(N, C, H, W) -> logits (N, 1), features (N, C', H', W')."""
        features = self.feature_conv(self.trunk(self.first(images)))
        logits = self.head(self.feature_rest(features).flatten(1))
        return CriticOutput(logits, features)


def _dense(in_features: int, out_features: int, activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(in_features, out_features, bias=False), nn.BatchNorm1d(out_features), activation
    )
