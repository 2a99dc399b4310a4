"""ID-GAN's networks: a ResNet generator and its critic without normalisation, and a bottleneck.

Lee et al. 2020, "High-fidelity synthesis with disentangled representation", with the layers of
their published code: those of Mescheder, Geiger and Nowozin 2018, "Which training methods for GANs
do actually converge?". The bottleneck is that of Peng et al. 2019, "Variational discriminator
bottleneck". For sprites, generator and critic are a VAE's decoder and encoder.
"""

from __future__ import annotations

import itertools
import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcorr_models.errors import UserError
from dcorr_models.nets.latent_vae import DENSE, WIDTHS, LatentDecoder, LatentEncoder

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "Bottleneck",
    "CodeReader",
    "Critic",
    "ResNetGenerator",
    "ResNetTrunk",
    "ResidualBlock",
    "SpriteGenerator",
    "Verdict",
    "check_side",
    "critic_widths",
    "generator_widths",
    "make_critic",
    "make_generator",
]

Architecture = Literal["sprites", "resnet"]
ARCHITECTURES = ("sprites", "resnet")
SLOPE = 0.2
FIRST_SIDE = 4
# Channels never exceed this, whatever the size of the images.
WIDEST = 512
# Share of what a block's convolutions add to its shortcut.
SHARE = 0.1


class Verdict(NamedTuple):
    """What a critic says of a batch."""

    logits: Tensor  # (N,)
    features: Tensor  # (N, F): what the logits are a linear function of
    divergence: Tensor  # (N,): nats that pass a bottleneck; 0 without one


def check_side(image_shape: tuple[int, int, int]) -> int:
    """How often images must be halved to 4 x 4 pixels.

    Raises:
        UserError: images that are not square with a side of 8, 16, 32, 64, ... pixels.

    Example:
        >>> check_side((3, 64, 64))
        4
        >>> check_side((3, 48, 48))
        Traceback (most recent call last):
        dcorr_models.errors.UserError: image_shape (3, 48, 48): these networks halve an image down \
to 4 x 4 pixels, so it must be square with a power of two from 8 on as its side: take 64
    """
    _, height, width = image_shape
    if height == width and height >= 2 * FIRST_SIDE and height.bit_count() == 1:
        return (height // FIRST_SIDE).bit_length() - 1
    near = max(2 * FIRST_SIDE, 1 << (max(height, width) - 1).bit_length())
    raise UserError(
        f"image_shape {tuple(image_shape)}: these networks halve an image down to {FIRST_SIDE} x "
        f"{FIRST_SIDE} pixels, so it must be square with a power of two from {2 * FIRST_SIDE} on "
        f"as its side: take {near}"
    )


def generator_widths(image_shape: tuple[int, int, int], width: int) -> list[int]:
    """Channels of the first map, then of each residual block, the last at the images' own size.

    Args:
        image_shape: channels, height and width.
        width: channels of the last block.

    Example:
        >>> generator_widths((3, 64, 64), 64)
        [512, 512, 256, 128, 64, 64]
    """
    halvings = check_side(image_shape)
    falling = [min(width << k, WIDEST) for k in range(halvings, -1, -1)]
    return [*falling, width]


def critic_widths(image_shape: tuple[int, int, int], width: int) -> list[int]:
    """Channels after the first convolution, then of each residual block, the first at full size.

    Example:
        >>> critic_widths((3, 64, 64), 64)
        [64, 64, 128, 256, 512, 512]
    """
    return list(reversed(generator_widths(image_shape, width)))


class ResidualBlock(nn.Module):
    """LeakyReLU, conv, LeakyReLU, conv, a tenth of it added to the input; no normalisation.

    The input passes a 1x1 convolution without bias where the channels change.

    Args:
        in_channels: of its input.
        out_channels: of its output.

    Example:
        >>> ResidualBlock(8, 4)(torch.zeros(2, 8, 6, 6)).shape
        torch.Size([2, 4, 6, 6])
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        hidden = min(in_channels, out_channels)
        self.first = nn.Conv2d(in_channels, hidden, 3, padding=1)
        self.second = nn.Conv2d(hidden, out_channels, 3, padding=1)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, H, W)."""
        added = self.second(_leaky(self.first(_leaky(maps))))
        total: Tensor = self.shortcut(maps) + SHARE * added
        return total


class ResNetGenerator(nn.Module):
    """(s, c) to an image in [-1, 1].

    Args:
        image_shape: channels, height and width.
        code_dim: numbers of s and c together.
        width: channels of the last block.

    Raises:
        UserError: a side that is no power of two from 8 on.

    Example:
        >>> net = ResNetGenerator((3, 16, 16), code_dim=5, width=8)
        >>> net(torch.zeros(2, 1), torch.zeros(2, 4)).shape
        torch.Size([2, 3, 16, 16])
    """

    def __init__(self, image_shape: tuple[int, int, int], code_dim: int, width: int = 64) -> None:
        super().__init__()
        widths = generator_widths(image_shape, width)
        self.map_shape = (widths[0], FIRST_SIDE, FIRST_SIDE)
        self.project = nn.Linear(code_dim, math.prod(self.map_shape))
        self.blocks = nn.ModuleList(ResidualBlock(a, b) for a, b in itertools.pairwise(widths))
        self.to_image = nn.Conv2d(widths[-1], image_shape[0], 3, padding=1)

    def forward(self, s: Tensor, c: Tensor) -> Tensor:
        """(N, nuisance_dim), (N, latent_dim) -> (N, C, H, W)."""
        maps = self.project(torch.cat([s, c], dim=1)).unflatten(1, self.map_shape)
        for number, block in enumerate(self.blocks):
            if number:
                maps = F.interpolate(maps, scale_factor=2.0, mode="nearest")
            maps = block(maps)
        images: Tensor = torch.tanh(self.to_image(_leaky(maps)))
        return images


class SpriteGenerator(nn.Module):
    """(s, c) to an image in [-1, 1]: a VAE's decoder with tanh.

    Args:
        image_shape: channels, height and width: 64 or 32 pixels a side.
        code_dim: numbers of s and c together.

    Example:
        >>> net = SpriteGenerator((1, 32, 32), code_dim=5)
        >>> net(torch.zeros(2, 0), torch.zeros(2, 5)).shape
        torch.Size([2, 1, 32, 32])
    """

    def __init__(self, image_shape: tuple[int, int, int], code_dim: int) -> None:
        super().__init__()
        self.decoder = LatentDecoder(image_shape, code_dim)

    def forward(self, s: Tensor, c: Tensor) -> Tensor:
        """(N, nuisance_dim), (N, latent_dim) -> (N, C, H, W)."""
        return torch.tanh(self.decoder(torch.cat([s, c], dim=1)))


class ResNetTrunk(nn.Module):
    """Images in [-1, 1] to the last maps of a critic, (N, channels, 4, 4).

    Args:
        image_shape: channels, height and width.
        width: channels of the first block.

    Raises:
        UserError: a side that is no power of two from 8 on.

    Example:
        >>> ResNetTrunk((3, 16, 16), width=8)(torch.zeros(2, 3, 16, 16)).shape
        torch.Size([2, 32, 4, 4])
    """

    def __init__(self, image_shape: tuple[int, int, int], width: int = 64) -> None:
        super().__init__()
        widths = critic_widths(image_shape, width)
        self.channels = widths[-1]
        self.from_image = nn.Conv2d(image_shape[0], widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(a, b) for a, b in itertools.pairwise(widths))

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, channels, 4, 4)."""
        maps = self.from_image(images)
        for number, block in enumerate(self.blocks):
            if number:
                maps = F.avg_pool2d(maps, 3, stride=2, padding=1)
            maps = block(maps)
        result: Tensor = maps
        return result


class Bottleneck(nn.Module):
    """A Gaussian of each place of a map, and a sample of it: what a critic may know is limited.

    Two 1x1 convolutions give mean and log of the standard deviation; the sample is noisy in
    evaluation too. The divergence is KL to N(0, I), a sum over the channels and a mean over the
    places.

    Args:
        channels: of its input and of its output.

    Reference:
        Peng et al. 2019, "Variational discriminator bottleneck".

    Example:
        >>> sample, nats = Bottleneck(8)(torch.zeros(2, 8, 4, 4))
        >>> sample.shape, nats.shape
        (torch.Size([2, 8, 4, 4]), torch.Size([2]))
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean = nn.Conv2d(channels, channels, 1)
        self.log_deviation = nn.Conv2d(channels, channels, 1)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """(N, channels, H, W) -> the same shape, and nats (N,)."""
        mean, log_deviation = self.mean(maps), self.log_deviation(maps)
        sample = mean + log_deviation.exp() * torch.randn_like(mean)
        nats = 0.5 * ((2 * log_deviation).exp() + mean.square() - 1) - log_deviation
        return sample, nats.sum(dim=1).mean(dim=(1, 2))


class Critic(nn.Module):
    """Images, and codes where it is told, to one logit each: a linear function of its features.

    With `code_dim`, the logit has a projection of the codes beside it, `<W c, f(x)>`, as Miyato and
    Koyama's of classes.

    Args:
        trunk: (N, C, H, W) images to maps or features, whatever their shape.
        features: how many numbers the trunk gives of an image.
        bottleneck: channels of the trunk's maps, which pass a `Bottleneck`; 0 for none.
        code_dim: size of the codes that it judges together with an image; 0 for none.
        activation: LeakyReLU before the last layer.

    Example:
        >>> trunk = ResNetTrunk((3, 16, 16), width=8)
        >>> net = Critic(trunk, 32 * 16, bottleneck=32, code_dim=4)
        >>> [part.shape for part in net(torch.zeros(2, 3, 16, 16), torch.zeros(2, 4))]
        [torch.Size([2]), torch.Size([2, 512]), torch.Size([2])]
    """

    def __init__(
        self,
        trunk: nn.Module,
        features: int,
        *,
        bottleneck: int = 0,
        code_dim: int = 0,
        activation: bool = True,
    ) -> None:
        super().__init__()
        self.trunk, self.activation = trunk, activation
        self.bottleneck = Bottleneck(bottleneck) if bottleneck else None
        self.logit = nn.Linear(features, 1)
        self.projection = nn.Linear(code_dim, features, bias=False) if code_dim else None

    def forward(self, images: Tensor, codes: Tensor | None = None) -> Verdict:
        """(N, C, H, W), (N, code_dim) or nothing -> `Verdict`."""
        maps = self.trunk(images)
        nats = maps.new_zeros(len(maps))
        if self.bottleneck is not None:
            maps, nats = self.bottleneck(maps)
        features = maps.flatten(1)
        if self.activation:
            features = _leaky(features)
        logits = self.logit(features).squeeze(1)
        if self.projection is not None:
            assert codes is not None, "a critic with code_dim is called with codes"
            logits = logits + (self.projection(codes) * features).sum(dim=1)
        return Verdict(logits, features, nats)


class CodeReader(nn.Sequential):
    """InfoGAN's Q: features of a critic to means and log-variances of c, through 128 units.

    Args:
        features: how many numbers the critic has of an image.
        code_dim: size of c.

    Example:
        >>> CodeReader(256, 10)(torch.zeros(2, 256)).shape
        torch.Size([2, 20])
    """

    def __init__(self, features: int, code_dim: int) -> None:
        hidden = 128  # that of InfoGAN's published code
        super().__init__(
            nn.Linear(features, hidden), nn.LeakyReLU(SLOPE), nn.Linear(hidden, 2 * code_dim)
        )


def make_generator(
    architecture: Architecture, image_shape: tuple[int, int, int], code_dim: int, width: int
) -> nn.Module:
    """The generator of the named architecture; `width` is the ResNet's."""
    if architecture == "resnet":
        return ResNetGenerator(image_shape, code_dim, width)
    if image_shape[1] not in WIDTHS or image_shape[1] != image_shape[2]:
        raise UserError(
            f"architecture sprites has no networks for images of {tuple(image_shape)}: take "
            "--method.gan.architecture resnet, or data of 32 x 32 or 64 x 64 pixels"
        )
    return SpriteGenerator(image_shape, code_dim)


def make_critic(
    architecture: Architecture,
    image_shape: tuple[int, int, int],
    width: int,
    *,
    bottleneck: bool = False,
    code_dim: int = 0,
) -> Critic:
    """The critic of the named architecture.

    Args:
        architecture: `sprites`: a VAE's encoder with one output; or `resnet`.
        image_shape: channels, height and width.
        width: of the ResNet.
        bottleneck: the ResNet's last maps pass a `Bottleneck`.
        code_dim: size of the codes that it judges together with an image; 0 for none.

    Raises:
        UserError: sizes that the architecture has no networks for; a bottleneck for sprites.
    """
    if architecture == "resnet":
        trunk = ResNetTrunk(image_shape, width)
        maps, channels = trunk.channels * FIRST_SIDE**2, trunk.channels if bottleneck else 0
        return Critic(trunk, maps, bottleneck=channels, code_dim=code_dim)
    if bottleneck:
        raise UserError(
            "the critic of architecture sprites has no maps that a bottleneck could limit: take "
            "architecture resnet, or bottleneck_nats 0"
        )
    encoder = nn.Sequential(*list(LatentEncoder(image_shape, 1))[:-1])
    return Critic(encoder, DENSE, code_dim=code_dim, activation=False)


def _leaky(maps: Tensor) -> Tensor:
    return F.leaky_relu(maps, SLOPE)
