"""Lr-LiVAE's networks: encoders, decoder and latent classifier, for images and for points.

Zheng and Sun 2019. `facescrub64`, `cifar10` and `toy` have the layers of the published code; it has
a driver for FaceScrub alone. `mnist` and `mnist_small` are this package's own.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from dcorr_models.errors import UserError
from dcorr_models.nets.lord import init_glorot
from dcorr_models.nets.projection_discriminator import CriticArchitecture

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "Decoder",
    "Encoder",
    "Norm",
    "check_shape",
    "latent_classifier",
]

Block = tuple[int, int] | Literal["max", "mean"]


@dataclass(frozen=True)
class Architecture:
    """Widths of all networks.

    Args:
        side: height and width of the images.
        kernel: side of the kernels of encoder and decoder.
        encoder: its blocks: (channels, stride) of a convolution, or a halving by the `max` or the
            `mean` of 2x2 places. None for points.
        encoder_dense: widths of its dense layers before the heads.
        decoder_dense: widths of the decoder's dense layers before the first map.
        decoder_map: channels and side of that map; none for points, which have no `decoder`.
        decoder: (channels, stride) of its transposed convolutions; one more gives the image.
        critic: the discriminator.
        classifier: widths of the latent classifier's hidden layers.
        norm: BatchNorm after every layer but the last, and no bias before it.
        slope: of the activations: 0 is a ReLU.
        output: the decoder's last activation: `tanh`, `sigmoid`, or `linear` for points.
    """

    side: int
    kernel: int
    encoder: tuple[Block, ...]
    encoder_dense: tuple[int, ...]
    decoder_dense: tuple[int, ...]
    decoder_map: tuple[int, int] | None
    decoder: tuple[tuple[int, int], ...]
    critic: CriticArchitecture
    classifier: tuple[int, ...]
    norm: bool = True
    slope: float = 0.0
    output: Literal["tanh", "sigmoid", "linear"] = "tanh"

    @property
    def value_range(self) -> tuple[float, float] | None:
        """Of the decoder's images; None for points."""
        ranges = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0)}
        return ranges.get(self.output)


def _vgg16() -> tuple[Block, ...]:
    groups = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
    blocks: list[Block] = []
    for place, (width, count) in enumerate(groups):
        blocks += [(width, 1)] * count
        # A mean ends it, where the classification network has a fifth maximum.
        blocks += ["max" if place + 1 < len(groups) else "mean"]
    return tuple(blocks)


ARCHITECTURES = {
    "facescrub64": Architecture(
        64, 3, _vgg16(), (1024,), (1024,), (512, 2),
        ((512, 2), (512, 1), (512, 1), (512, 2), (512, 1), (256, 1), (256, 2), (256, 1), (128, 1),
         (128, 2), (64, 1), (64, 2)),
        CriticArchitecture(
            ((64, 2), (128, 2), (256, 1), (256, 2), (512, 1), (512, 2), (512, 2)), (1024,)
        ),
        (256,),
    ),
    "cifar10": Architecture(
        32, 5, ((32, 2), (64, 2), (128, 2), (256, 2)), (1024,), (), (256, 2),
        ((256, 2), (256, 1), (128, 2), (64, 2), (32, 2)),
        CriticArchitecture(((32, 2), (128, 2), (256, 1), (256, 2)), (1024,)), (256,),
    ),
    "mnist": Architecture(
        28, 5, ((32, 2), (64, 2), (128, 2)), (512,), (512,), (128, 7),
        ((128, 2), (64, 1), (32, 2)),
        CriticArchitecture(((32, 2), (64, 2), (128, 1), (128, 2)), (256,)), (256,),
        output="sigmoid",
    ),
    # Widths that one CPU core trains in minutes.
    "mnist_small": Architecture(
        28, 3, ((16, 2), (32, 2), (64, 2)), (128,), (128,), (32, 7), ((32, 2), (16, 2)),
        CriticArchitecture(((16, 2), (32, 2), (64, 2)), (64,)), (64,), output="sigmoid",
    ),
    "toy": Architecture(
        1, 1, (), (32, 64, 64), (64, 64, 32), None, (),
        CriticArchitecture((), (32, 64, 64)), (64,), norm=False, slope=0.1, output="linear",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Norm:
    """How BatchNorm works: epsilon, share of a new batch in its statistics, or none of these.

    Args:
        epsilon: added to the variance; 1e-3 in the published code.
        momentum: share of a new batch in the running statistics.
        running: keep them, and use them in evaluation; otherwise a batch's own are used always,
            as in the published code.
    """

    epsilon: float = 1e-3
    momentum: float = 0.1
    running: bool = True

    def after_dense(self, width: int) -> nn.Module:
        """Of (N, width) features."""
        return nn.BatchNorm1d(width, self.epsilon, self.momentum, track_running_stats=self.running)

    def after_maps(self, width: int) -> nn.Module:
        """Of (N, width, H, W) maps."""
        return nn.BatchNorm2d(width, self.epsilon, self.momentum, track_running_stats=self.running)


class Encoder(nn.Module):
    """Images to one or more codes, side by side: convolutions, dense layers, a head for each code.

    Args:
        image_shape: channels, height and width.
        sizes: the architecture.
        heads: numbers of each head.
        norm: how BatchNorm works.
        extra_channels: maps that `forward` is given beside the image's own, for encoders that know
            the class.

    Example:
        >>> net = Encoder((1, 28, 28), ARCHITECTURES["mnist_small"], (5, 5))
        >>> net(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        sizes: Architecture,
        heads: tuple[int, ...],
        *,
        norm: Norm | None = None,
        extra_channels: int = 0,
    ) -> None:
        super().__init__()
        check_shape(image_shape, sizes)
        norm = norm or Norm()
        channels, side = image_shape[0] + extra_channels, image_shape[1]
        layers: list[nn.Module] = []
        for block in sizes.encoder:
            if isinstance(block, str):
                layers += [nn.MaxPool2d(2) if block == "max" else nn.AvgPool2d(2)]
                side //= 2
                continue
            width, stride = block
            padding = sizes.kernel // 2
            layers += [
                nn.Conv2d(channels, width, sizes.kernel, stride, padding, bias=not sizes.norm),
                *([norm.after_maps(width)] if sizes.norm else []),
                _activation(sizes),
            ]
            channels, side = width, -(-side // stride)
        features = (channels * side * side, *sizes.encoder_dense)
        layers += [nn.Flatten(), *_dense(features, sizes, norm)]
        self.trunk = nn.Sequential(*layers)
        self.heads = nn.ModuleList([nn.Linear(features[-1], size) for size in heads])
        init_glorot(self)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, sum of the heads)."""
        features = self.trunk(images)
        return torch.cat([head(features) for head in self.heads], dim=1)


class Decoder(nn.Module):
    """Two codes to images: dense layers, then transposed convolutions.

    Args:
        image_shape: channels, height and width.
        sizes: the architecture.
        code_size: numbers of both codes together.
        norm: how BatchNorm works.

    Example:
        >>> net = Decoder((1, 28, 28), ARCHITECTURES["mnist_small"], 5)
        >>> net(torch.zeros(2, 3), torch.zeros(2, 2)).shape
        torch.Size([2, 1, 28, 28])
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        sizes: Architecture,
        code_size: int,
        *,
        norm: Norm | None = None,
    ) -> None:
        super().__init__()
        check_shape(image_shape, sizes)
        norm = norm or Norm()
        self.image_shape, self.map = image_shape, sizes.decoder_map
        dense = [code_size, *sizes.decoder_dense]
        if sizes.decoder_map is not None:
            channels, side = sizes.decoder_map
            dense.append(channels * side * side)
        self.dense = nn.Sequential(*_dense(tuple(dense), sizes, norm))
        layers: list[nn.Module] = []
        if sizes.decoder_map is None:
            layers += [nn.Linear(dense[-1], math.prod(image_shape))]
        else:
            for width, stride in sizes.decoder:
                layers += [
                    _up(channels, width, sizes.kernel, stride, bias=not sizes.norm),
                    *([norm.after_maps(width)] if sizes.norm else []),
                    _activation(sizes),
                ]
                channels = width
            layers += [_up(channels, image_shape[0], sizes.kernel, 1, bias=True)]
        if sizes.output != "linear":
            layers += [nn.Tanh() if sizes.output == "tanh" else nn.Sigmoid()]
        self.image = nn.Sequential(*layers)
        init_glorot(self)

    def forward(self, class_code: Tensor, content_code: Tensor) -> Tensor:
        """(N, K), (N, Z) with K + Z = code_size -> (N, C, H, W)."""
        features = self.dense(torch.cat([class_code, content_code], dim=1))
        if self.map is not None:
            features = features.reshape(-1, self.map[0], self.map[1], self.map[1])
        images: Tensor = self.image(features)
        return images.reshape(-1, *self.image_shape)


def latent_classifier(code_size: int, sizes: Architecture, num_classes: int) -> nn.Sequential:
    """Codes to logits of the classes: the hidden layers of the architecture, with ReLUs.

    Example:
        >>> latent_classifier(5, ARCHITECTURES["mnist_small"], 10)(torch.zeros(2, 5)).shape
        torch.Size([2, 10])
    """
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise((code_size, *sizes.classifier)):
        layers += [nn.Linear(a, b), _activation(sizes)]
    layers += [nn.Linear((code_size, *sizes.classifier)[-1], num_classes)]
    network = nn.Sequential(*layers)
    init_glorot(network)
    return network


def check_shape(image_shape: tuple[int, int, int], sizes: Architecture) -> None:
    """Raises `UserError` for images of another side than the architecture's.

    Example:
        >>> check_shape((1, 32, 32), ARCHITECTURES["mnist"])
        Traceback (most recent call last):
        dcorr_models.errors.UserError: image_shape (1, 32, 32) does not fit the architecture: its \
images have 28 x 28 pixels
    """
    if tuple(image_shape[1:]) != (sizes.side, sizes.side):
        raise UserError(
            f"image_shape {tuple(image_shape)} does not fit the architecture: its images have "
            f"{sizes.side} x {sizes.side} pixels"
        )


def _dense(widths: tuple[int, ...], sizes: Architecture, norm: Norm) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [
            nn.Linear(a, b, bias=not sizes.norm),
            *([norm.after_dense(b)] if sizes.norm else []),
            _activation(sizes),
        ]
    return layers


def _up(channels: int, width: int, kernel: int, stride: int, *, bias: bool) -> nn.Module:
    return nn.ConvTranspose2d(
        channels, width, kernel, stride, kernel // 2, output_padding=stride - 1, bias=bias
    )


def _activation(sizes: Architecture) -> nn.Module:
    return nn.LeakyReLU(sizes.slope) if sizes.slope else nn.ReLU()
