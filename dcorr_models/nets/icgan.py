"""IcGAN's four networks: a conditional generator, its discriminator, and two encoders.

Perarnau et al. 2016; sizes and layers as in the port of CDNet's authors. All convolutions and
dense layers have biases, also before a BatchNorm.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dcorr_models.errors import UserError
from dcorr_models.nets.blocks import conv_down, conv_up

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "ConditionalCritic",
    "ConditionalGenerator",
    "IcganEncoder",
]


@dataclass(frozen=True)
class Architecture:
    """Widths of the four networks.

    Args:
        generator_widths: channels of the generator's maps before the image; each step doubles.
        generator_dense: the generator begins with a dense layer onto its first map; otherwise with
            a transposed convolution of (z, y) laid out as a map.
        critic_first: channels, kernel and stride of the critic's first convolution, before the
            labels join.
        critic_widths: channels after each halving convolution.
        critic_dense: width of a dense layer before the output; 0 for a convolution over all.
        encoder_widths: channels after each halving convolution of the encoders.
        encoder_kernel: side of their kernels.
        latent_dense: width of the dense layer of Enc_z.
        label_dense: width of the dense layer of Enc_y.
        output: the generator's last activation: `sigmoid` for images in [0, 1], `tanh` for [-1, 1].
    """

    generator_widths: tuple[int, ...]
    generator_dense: bool
    critic_first: tuple[int, int, int]
    critic_widths: tuple[int, ...]
    critic_dense: int
    encoder_widths: tuple[int, ...]
    encoder_kernel: int
    latent_dense: int
    label_dense: int
    output: str

    @property
    def image_multiple(self) -> int:
        """Image sides must be divisible by this."""
        critic = len(self.critic_widths) + self.critic_first[2] - 1
        generator = len(self.generator_widths) + (not self.generator_dense)
        return int(2 ** max(critic, generator, len(self.encoder_widths)))


ARCHITECTURES = {
    "mnist": Architecture(
        (64, 32), True, (64, 5, 1), (128, 256), 128, (32, 64), 4, 512, 512, "sigmoid"
    ),
    "celeba": Architecture(
        (512, 256, 128, 64), False, (64, 4, 2), (128, 256, 512), 0,
        (32, 64, 128, 256), 5, 4096, 512, "tanh",
    ),
    # Not from the papers: CelebA's depth at widths that two CPU cores train in minutes.
    "faces_small": Architecture(
        (128, 64, 32, 16), False, (16, 4, 2), (32, 64, 128), 0,
        (16, 32, 64, 64), 5, 256, 256, "tanh",
    ),
}  # fmt: skip


class ConditionalGenerator(nn.Module):
    """(z, y) to image.

    Args:
        image_shape: (channels, height, width).
        architecture: widths.
        num_labels: size of y.
        latent_dim: size of z.
        single: without a dense layer, begin at a map of one pixel with a 4x4 transposed
            convolution of stride 1, as the original code does; otherwise at a map of a
            2^depth-th of the image, 2x2 for 64x64, filled with copies of (z, y), as the port does.
            The parameters are as many.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        architecture: Architecture,
        *,
        num_labels: int,
        latent_dim: int,
        single: bool = False,
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        widths, codes = architecture.generator_widths, latent_dim + num_labels
        shrink = 2 ** len(widths)
        self.first_map = (widths[0], height // shrink, width // shrink)
        if single and (architecture.generator_dense or self.first_map[1:] != (4, 4)):
            raise UserError(
                "a generator from a single pixel needs an architecture that begins with a "
                f"convolution, and images of {4 * shrink}x{4 * shrink}"
            )
        self.dense: nn.Sequential | None = None
        self.copies = (1, 1) if single else (height // (2 * shrink), width // (2 * shrink))
        first: list[nn.Module] = []
        if architecture.generator_dense:
            flat = self.first_map[0] * self.first_map[1] * self.first_map[2]
            self.dense = nn.Sequential(nn.Linear(codes, flat), nn.BatchNorm1d(flat), nn.ReLU())
        elif single:
            first = [nn.ConvTranspose2d(codes, widths[0], 4), nn.BatchNorm2d(widths[0]), nn.ReLU()]
        else:
            first = [*conv_up(codes, widths[0], bias=True)]
        self.up = nn.Sequential(
            *first,
            *(layer for a, b in itertools.pairwise(widths) for layer in conv_up(a, b, bias=True)),
            nn.ConvTranspose2d(widths[-1], channels, 4, stride=2, padding=1),
            nn.Sigmoid() if architecture.output == "sigmoid" else nn.Tanh(),
        )

    def forward(self, residual: Tensor, labels: Tensor) -> Tensor:
        """(N, latent_dim), (N, num_labels) -> (N, C, H, W)."""
        codes = torch.cat([residual, labels], dim=1)
        if self.dense is None:
            maps = codes[:, :, None, None].expand(-1, -1, *self.copies)
        else:
            maps = self.dense(codes).reshape(-1, *self.first_map)
        image: Tensor = self.up(maps)
        return image


class ConditionalCritic(nn.Module):
    """Image and labels to one logit; the labels join as constant maps after the first convolution.

    Args:
        image_shape: (channels, height, width).
        architecture: widths.
        num_labels: size of y.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], architecture: Architecture, *, num_labels: int
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        first, kernel, stride = architecture.critic_first
        self.first = nn.Sequential(
            nn.Conv2d(channels, first, kernel, stride=stride, padding=(kernel - 1) // 2),
            nn.LeakyReLU(0.2),
        )
        widths = architecture.critic_widths
        steps = itertools.pairwise((first + num_labels, *widths))
        self.trunk = nn.Sequential(*(conv_down(a, b, bias=True) for a, b in steps))
        shrink = stride * 2 ** len(widths)
        last_map = (height // shrink, width // shrink)
        self.head = _head(widths[-1], last_map, architecture.critic_dense)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """(N, C, H, W), (N, num_labels) -> (N, 1)."""
        h = self.first(images)
        maps = labels[:, :, None, None].expand(-1, -1, *h.shape[2:])
        logits: Tensor = self.head(self.trunk(torch.cat([h, maps], dim=1)))
        return logits


def _head(channels: int, last_map: tuple[int, int], width: int) -> nn.Sequential:
    if width == 0:
        return nn.Sequential(nn.Conv2d(channels, 1, last_map), nn.Flatten())
    flat = channels * last_map[0] * last_map[1]
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(flat, width),
        nn.BatchNorm1d(width),
        nn.LeakyReLU(0.2),
        nn.Linear(width, 1),
    )


class IcganEncoder(nn.Module):
    """Image to code: halving convolutions and one dense layer, with BatchNorm and ReLU throughout.

    Args:
        image_shape: (channels, height, width).
        architecture: widths of the convolutions.
        dense_width: width of the dense layer.
        out_features: size of the code.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        architecture: Architecture,
        dense_width: int,
        out_features: int,
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        widths, kernel = (channels, *architecture.encoder_widths), architecture.encoder_kernel
        shrink = 2 ** len(architecture.encoder_widths)
        flat = widths[-1] * (height // shrink) * (width // shrink)
        self.layers = nn.Sequential(
            *(
                conv_down(a, b, kernel=kernel, bias=True, slope=0.0)  # slope 0: a ReLU
                for a, b in itertools.pairwise(widths)
            ),
            nn.Flatten(),
            nn.Linear(flat, dense_width),
            nn.BatchNorm1d(dense_width),
            nn.ReLU(),
            nn.Linear(dense_width, out_features),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, out_features)."""
        code: Tensor = self.layers(images)
        return code
