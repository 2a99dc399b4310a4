"""Layers that several families share: halving and doubling convolutions, dense layers."""

from __future__ import annotations

from torch import nn

__all__ = ["conv_down", "conv_up", "dense"]


def conv_down(
    in_channels: int, out_channels: int, *, kernel: int = 4, bias: bool = False, slope: float = 0.2
) -> nn.Sequential:
    """(N, in, H, W) -> (N, out, H/2, W/2): conv (4x4 or 5x5) stride 2, BatchNorm, LeakyReLU."""
    padding = (kernel - 1) // 2
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride=2, padding=padding, bias=bias),
        nn.BatchNorm2d(out_channels),
        nn.LeakyReLU(slope),
    )


def conv_up(
    in_channels: int, out_channels: int, *, kernel: int = 4, bias: bool = False
) -> nn.Sequential:
    """(N, in, H, W) -> (N, out, 2H, 2W): transposed conv (4x4 or 5x5), BatchNorm, ReLU."""
    return nn.Sequential(
        nn.ConvTranspose2d(
            in_channels,
            out_channels,
            kernel,
            stride=2,
            padding=(kernel - 1) // 2,
            output_padding=kernel % 2,
            bias=bias,
        ),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


def dense(
    in_features: int, out_features: int, *, dropout: float = 0.0, slope: float = 0.2
) -> nn.Sequential:
    """(N, in) -> (N, out): linear without bias, LeakyReLU, dropout."""
    return nn.Sequential(
        nn.Linear(in_features, out_features, bias=False),
        nn.LeakyReLU(slope),
        nn.Dropout(dropout),
    )
