"""The plain auto-encoder of CDNet's family: one encoder for both codes, a decoder without extras.

Layers of AE-XCov as CDNet's authors released it (Song et al. 2020, section IV-A3): CDNet's encoder
with one head, `ConvEncoder(..., num_labels + latent_dim)`, and its decoder with the label code
among the inputs of the first layer alone. Initialisation is PyTorch's default, as in the release.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from dcorr_models.nets.blocks import conv_up
from dcorr_models.nets.cdnet import Architecture

__all__ = ["PlainDecoder"]


class PlainDecoder(nn.Module):
    """(label code, z) to image: dense layers, then doubling convolutions, mirroring the encoder.

    Args:
        image_shape: (channels, height, width).
        architecture: widths; the decoder mirrors the encoder.
        code_size: size of the label code and z together.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], architecture: Architecture, code_size: int
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        shrink = 2 ** len(architecture.encoder_widths)
        widths = architecture.encoder_widths[::-1]
        self.first_map = (widths[0], height // shrink, width // shrink)
        flat = widths[0] * (height // shrink) * (width // shrink)
        sizes = (code_size, *architecture.encoder_dense[::-1], flat)
        self.dense = nn.Sequential(
            *(
                nn.Sequential(nn.Linear(a, b, bias=False), nn.BatchNorm1d(b), nn.ReLU())
                for a, b in itertools.pairwise(sizes)
            )
        )
        self.up = nn.Sequential(*(conv_up(a, b) for a, b in itertools.pairwise(widths)))
        self.output = nn.ConvTranspose2d(widths[-1], channels, 4, stride=2, padding=1)
        self.activation = nn.Sigmoid() if architecture.output == "sigmoid" else nn.Tanh()

    def forward(self, label_code: Tensor, residual: Tensor) -> Tensor:
        """(N, K), (N, Z) with K + Z = code_size, K may be 0 -> (N, C, H, W)."""
        h = self.dense(torch.cat([label_code, residual], dim=1))
        image: Tensor = self.activation(self.output(self.up(h.reshape(-1, *self.first_map))))
        return image
