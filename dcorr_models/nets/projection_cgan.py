"""The projection cGAN's networks: a ResNet generator with class-conditional BatchNorm, its critic.

Miyato and Koyama 2018, "cGANs with projection discriminator", and Miyato et al. 2018, "Spectral
normalization for generative adversarial networks", with the layers of their published code.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcorr_models.errors import UserError
from dcorr_models.nets import lr_livae
from dcorr_models.nets.projection_discriminator import (
    Judgement,
    ProjectionDiscriminator,
    spectral_norm,
)

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "ClassBatchNorm",
    "ResNetCritic",
    "ResNetGenerator",
    "critic",
]

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


@dataclass(frozen=True)
class Architecture:
    """Widths of generator and critic.

    Args:
        side: of the images, which are square.
        generator_widths: channels of the first map, then of each map, twice as large as the last.
        critic_widths: channels of each residual block of the critic; none for Lr-LiVAE's critic.
        critic_halvings: the first so many blocks halve the map.
        output: the generator's last activation: `sigmoid` for images in [0, 1], `tanh` for [-1, 1].
    """

    side: int
    generator_widths: tuple[int, ...]
    critic_widths: tuple[int, ...]
    critic_halvings: int = 0
    output: str = "tanh"

    @property
    def first_side(self) -> int:
        """Side of the generator's first map."""
        return self.side >> (len(self.generator_widths) - 1)


ARCHITECTURES = {
    "cifar10": Architecture(32, (256, 256, 256, 256), (128, 128, 128, 128), 2),
    "facescrub64": Architecture(64, (1024, 512, 256, 128, 64), (64, 128, 256, 512, 1024), 5),
    # Not from the paper: a CPU trains it in minutes.
    "mnist_small": Architecture(28, (64, 32, 16), (), output="sigmoid"),
}


class ClassBatchNorm(nn.Module):
    """BatchNorm over all classes, with a gain and a bias for each class.

    Args:
        channels: of the maps.
        num_labels: classes.

    Example:
        >>> norm = ClassBatchNorm(3, num_labels=2)
        >>> norm(torch.zeros(2, 3, 4, 4), torch.tensor([1, 0])).shape
        torch.Size([2, 3, 4, 4])
    """

    def __init__(self, channels: int, num_labels: int) -> None:
        super().__init__()
        # 2e-5 is the published code's epsilon.
        self.norm = nn.BatchNorm2d(channels, eps=2e-5, affine=False)
        self.gain = nn.Embedding(num_labels, channels)
        self.bias = nn.Embedding(num_labels, channels)
        nn.init.ones_(self.gain.weight)
        nn.init.zeros_(self.bias.weight)

    def forward(self, maps: Tensor, labels: Tensor) -> Tensor:
        """(N, C, H, W), int64 (N,) -> (N, C, H, W)."""
        gain, bias = self.gain(labels), self.bias(labels)  # (N, C)
        output: Tensor = self.norm(maps) * gain[:, :, None, None] + bias[:, :, None, None]
        return output


class DoublingBlock(nn.Module):
    """Conditional BatchNorm, ReLU, doubling, conv; the same without doubling; plus a shortcut."""

    def __init__(self, in_channels: int, out_channels: int, num_labels: int) -> None:
        super().__init__()
        self.first_norm = ClassBatchNorm(in_channels, num_labels)
        self.first = _conv(in_channels, out_channels)
        self.second_norm = ClassBatchNorm(out_channels, num_labels)
        self.second = _conv(out_channels, out_channels)
        self.shortcut = _conv(in_channels, out_channels, kernel=1)

    def forward(self, maps: Tensor, labels: Tensor) -> Tensor:
        """(N, in, H, W), int64 (N,) -> (N, out, 2H, 2W)."""
        hidden = self.first(_double(torch.relu(self.first_norm(maps, labels))))
        hidden = self.second(torch.relu(self.second_norm(hidden, labels)))
        # A 1x1 convolution of a doubled map is the doubled convolution, at a quarter of the work.
        shortcut = _double(self.shortcut(maps))
        total: Tensor = hidden + shortcut
        return total


class ResNetGenerator(nn.Module):
    """Noise and a class to an image.

    Args:
        image_shape: channels, height and width.
        architecture: its widths.
        noise_dim: size of z.
        num_labels: classes.

    Raises:
        UserError: images of another side than the architecture's.

    Example:
        >>> net = ResNetGenerator((1, 28, 28), ARCHITECTURES["mnist_small"], 128, 10)
        >>> net(torch.randn(2, 128), torch.tensor([3, 9])).shape
        torch.Size([2, 1, 28, 28])
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        architecture: Architecture,
        noise_dim: int,
        num_labels: int,
    ) -> None:
        super().__init__()
        _check_side(image_shape, architecture)
        widths, side = architecture.generator_widths, architecture.first_side
        self.map_shape = (widths[0], side, side)
        self.project = nn.Linear(noise_dim, math.prod(self.map_shape))
        self.blocks = nn.ModuleList(
            DoublingBlock(width, wider, num_labels) for width, wider in itertools.pairwise(widths)
        )
        self.norm = nn.BatchNorm2d(widths[-1], eps=2e-5)
        self.to_image = _conv(widths[-1], image_shape[0], gain=1.0)
        self.output = nn.Sigmoid() if architecture.output == "sigmoid" else nn.Tanh()
        _xavier(self.project, 1.0)

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        """(N, noise_dim), int64 (N,) -> (N, C, H, W)."""
        maps = self.project(noise).unflatten(1, self.map_shape)
        for block in self.blocks:
            maps = block(maps, labels)
        images: Tensor = self.output(self.to_image(torch.relu(self.norm(maps))))
        return images


class CriticBlock(nn.Module):
    """Two spectrally normalised convolutions, halved or not, plus a shortcut.

    Args:
        in_channels: of its input.
        out_channels: of its output.
        halve: average-pool the map by 2.
        first: it reads the image: no ReLU before the first convolution, which widens at once.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, halve: bool, first: bool = False
    ) -> None:
        super().__init__()
        hidden = out_channels if first else in_channels
        self.entry: nn.Module = nn.Identity() if first else nn.ReLU()
        self.first = spectral_norm(_conv(in_channels, hidden))
        self.second = spectral_norm(_conv(hidden, out_channels))
        self.pool: nn.Module = nn.AvgPool2d(2) if halve else nn.Identity()
        self.shortcut: nn.Module = nn.Identity()
        if halve or in_channels != out_channels:
            self.shortcut = spectral_norm(_conv(in_channels, out_channels, kernel=1))

    def forward(self, maps: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, H', W')."""
        residual = self.pool(self.second(torch.relu(self.first(self.entry(maps)))))
        # Mean and 1x1 convolution commute: pooling first is a quarter of the work.
        total: Tensor = residual + self.shortcut(self.pool(maps))
        return total


class ResNetCritic(nn.Module):
    """Spectrally normalised projection critic: w · h(x) + v_y · h(x).

    Args:
        image_shape: channels, height and width.
        architecture: its widths.
        num_labels: classes.

    Raises:
        UserError: images of another side than the architecture's.

    Example:
        >>> net = ResNetCritic((3, 32, 32), ARCHITECTURES["cifar10"], 10)
        >>> net(torch.zeros(2, 3, 32, 32), torch.tensor([3, 9])).logits.shape
        torch.Size([2])
    """

    def __init__(
        self, image_shape: tuple[int, int, int], architecture: Architecture, num_labels: int
    ) -> None:
        super().__init__()
        _check_side(image_shape, architecture)
        widths = (image_shape[0], *architecture.critic_widths)
        self.blocks = nn.Sequential(
            *(
                CriticBlock(width, wider, halve=k < architecture.critic_halvings, first=k == 0)
                for k, (width, wider) in enumerate(itertools.pairwise(widths))
            )
        )
        self.logit = spectral_norm(_xavier(nn.Linear(widths[-1], 1, bias=False), 1.0))
        embedding = nn.Embedding(num_labels, widths[-1])
        nn.init.xavier_uniform_(embedding.weight)
        self.embedding = spectral_norm(embedding)

    def forward(self, images: Tensor, labels: Tensor) -> Judgement:
        """(N, C, H, W), int64 (N,) -> a logit and the features h(x) of each."""
        features = torch.relu(self.blocks(images)).sum(dim=(2, 3))
        projected = (self.embedding(labels) * features).sum(dim=1)
        return Judgement(self.logit(features).squeeze(1) + projected, features)


def critic(image_shape: tuple[int, int, int], architecture: str, num_labels: int) -> nn.Module:
    """The critic of the named architecture: a ResNet, or Lr-LiVAE's of the same name.

    Raises:
        UserError: images of another side than the architecture's.
    """
    sizes = ARCHITECTURES[architecture]
    if sizes.critic_widths:
        return ResNetCritic(image_shape, sizes, num_labels)
    _check_side(image_shape, sizes)
    small = lr_livae.ARCHITECTURES[architecture].critic
    return ProjectionDiscriminator(image_shape, small, num_labels)


def _double(maps: Tensor) -> Tensor:
    return F.interpolate(maps, scale_factor=2.0, mode="nearest")


def _conv(
    in_channels: int, out_channels: int, *, kernel: int = 3, gain: float | None = None
) -> nn.Conv2d:
    """3x3 with the gain of a ReLU, or the 1x1 of a shortcut with gain 1; the size stays."""
    if gain is None:
        gain = math.sqrt(2) if kernel == 3 else 1.0
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)
    return _xavier(conv, gain)


def _xavier(layer: Layer, gain: float) -> Layer:
    nn.init.xavier_uniform_(layer.weight, gain=gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _check_side(image_shape: tuple[int, int, int], architecture: Architecture) -> None:
    side = architecture.side
    if tuple(image_shape[1:]) != (side, side):
        raise UserError(
            f"image_shape {tuple(image_shape)} does not fit this architecture: its images have "
            f"{side} x {side} pixels"
        )
