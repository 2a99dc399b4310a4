"""CDNet's four networks, in the sizes of its release for MNIST and CelebA, and a small one.

Song et al. 2020, section IV-A3; layers from the released code, since the paper's supplement with
its layer tables is not public. Initialisation is PyTorch's default, as in effect in the release.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dcorr_models.nets.blocks import conv_down, conv_up, dense

__all__ = ["ARCHITECTURES", "Architecture", "ConvEncoder", "Critic", "CriticOutput", "LabelDecoder"]


@dataclass(frozen=True)
class Architecture:
    """Widths of the four networks.

    Args:
        encoder_widths: channels after each halving convolution.
        encoder_dense: widths of the dense layers before the output layer.
        critic_widths: channels of the first (full-size) convolution and of each halving one.
        critic_dense: width of the critic's dense layer.
        output: the decoder's last activation: `sigmoid` for images in [0, 1], `tanh` for [-1, 1].
    """

    encoder_widths: tuple[int, ...]
    encoder_dense: tuple[int, ...]
    critic_widths: tuple[int, ...]
    critic_dense: int
    output: str

    @property
    def image_multiple(self) -> int:
        """Image sides must be divisible by this."""
        return int(2 ** max(len(self.encoder_widths), len(self.critic_widths) - 1))


ARCHITECTURES = {
    "mnist": Architecture((32, 64), (1000,), (32, 64, 128), 128, "sigmoid"),
    "celeba": Architecture((64, 128, 256), (4000, 2000), (32, 128, 256, 256), 512, "tanh"),
    # Not from the paper: CelebA's depth at widths that two CPU cores train in minutes.
    "faces_small": Architecture((16, 32, 64), (256,), (8, 16, 32, 64), 64, "tanh"),
}


class ConvEncoder(nn.Module):
    """Image to code: halving convolutions, dense layers with dropout, one linear output.

    Both encoders of CDNet have this form: Enc_y with one output a label (logits), Enc_z with one a
    dimension of z.

    Args:
        image_shape: (channels, height, width).
        architecture: widths.
        out_features: size of the code.
        dropout: rate after each dense layer but the last.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        architecture: Architecture,
        out_features: int,
        *,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        widths = (channels, *architecture.encoder_widths)
        self.convolutions = nn.Sequential(*(conv_down(a, b) for a, b in itertools.pairwise(widths)))
        shrink = 2 ** len(architecture.encoder_widths)
        flat = widths[-1] * (height // shrink) * (width // shrink)
        sizes = (flat, *architecture.encoder_dense)
        self.dense = nn.Sequential(
            *(dense(a, b, dropout=dropout) for a, b in itertools.pairwise(sizes))
        )
        self.output = nn.Linear(sizes[-1], out_features)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, out_features)."""
        code: Tensor = self.output(self.dense(self.convolutions(images).flatten(1)))
        return code


class LabelDecoder(nn.Module):
    """(ŷ, z) to image; ŷ is appended again before every layer, as constant maps to the images'.

    Args:
        image_shape: (channels, height, width).
        architecture: widths; the decoder mirrors the encoder.
        num_labels: size of ŷ.
        latent_dim: size of z.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        architecture: Architecture,
        *,
        num_labels: int,
        latent_dim: int,
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        shrink = 2 ** len(architecture.encoder_widths)
        widths = architecture.encoder_widths[::-1]
        self.first_map = (widths[0], height // shrink, width // shrink)
        flat = widths[0] * (height // shrink) * (width // shrink)
        sizes = (latent_dim, *architecture.encoder_dense[::-1], flat)
        self.dense = nn.ModuleList(
            nn.Sequential(nn.Linear(a + num_labels, b, bias=False), nn.BatchNorm1d(b), nn.ReLU())
            for a, b in itertools.pairwise(sizes)
        )
        self.up = nn.ModuleList(conv_up(a + num_labels, b) for a, b in itertools.pairwise(widths))
        self.output = nn.ConvTranspose2d(
            widths[-1] + num_labels, channels, 4, stride=2, padding=1, bias=True
        )
        self.activation = nn.Sigmoid() if architecture.output == "sigmoid" else nn.Tanh()

    def forward(self, label_code: Tensor, residual: Tensor) -> Tensor:
        """(N, num_labels), (N, latent_dim) -> (N, C, H, W)."""
        h = residual
        for layer in self.dense:
            h = layer(torch.cat([label_code, h], dim=1))
        h = h.reshape(-1, *self.first_map)
        for layer in (*self.up, self.output):
            maps = label_code[:, :, None, None].expand(-1, -1, *h.shape[2:])
            h = layer(torch.cat([h, maps], dim=1))
        image: Tensor = self.activation(h)
        return image


class CriticOutput(NamedTuple):
    """What a critic gives back."""

    logits: Tensor  # (N, 1), D(x) = sigmoid(logits)
    features: Tensor  # (N, ...), h_l(x) of the feature loss


class Critic(nn.Module):
    """The discriminator: logits and the features that the reconstruction is compared in.

    The features are the last convolution's output before its BatchNorm.

    Args:
        image_shape: (channels, height, width).
        architecture: widths.
        dropout: rate after the dense layer.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        architecture: Architecture,
        *,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        widths = architecture.critic_widths
        self.first = nn.Sequential(
            nn.Conv2d(channels, widths[0], 5, padding=2, bias=False), nn.LeakyReLU(0.2)
        )
        blocks = [conv_down(a, b) for a, b in itertools.pairwise(widths)]
        self.trunk = nn.Sequential(*blocks[:-1])
        self.feature_conv, self.feature_rest = blocks[-1][0], blocks[-1][1:]
        shrink = 2 ** (len(widths) - 1)
        flat = widths[-1] * (height // shrink) * (width // shrink)
        self.head = nn.Sequential(
            dense(flat, architecture.critic_dense, dropout=dropout),
            nn.Linear(architecture.critic_dense, 1),
        )

    def forward(self, images: Tensor) -> CriticOutput:
        """(N, C, H, W) -> logits (N, 1), features (N, C', H', W')."""
        features = self.feature_conv(self.trunk(self.first(images)))
        logits = self.head(self.feature_rest(features).flatten(1))
        return CriticOutput(logits, features)
