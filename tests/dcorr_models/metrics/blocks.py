"""Images whose attributes can be read off: each one bright block of pixels on noise."""

from __future__ import annotations

import torch
from torch import Tensor

from dcorr_models.data import LabelledImages

NAMES = ("left", "middle", "right")
SIDE = 4  # of a block


def blocks(
    n: int, *, seed: int = 0, value_range: tuple[float, float] = (0.0, 1.0), channels: int = 1
) -> LabelledImages:
    """Three independent attributes of (channels, 4, 12) images."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (n, 3), generator=generator).float()
    noise = torch.randint(0, 40, (n, channels, SIDE, 3 * SIDE), generator=generator)
    return LabelledImages(
        paint(noise / 255.0, labels).mul(255).round().to(torch.uint8),
        labels,
        value_range=value_range,
    )


def paint(images: Tensor, amounts: Tensor) -> Tensor:
    """Images in [0, 1] with so much light added to each block: 0.8 for an amount of 1."""
    light = 0.8 * amounts.float()[:, None, None, :].repeat_interleave(SIDE, dim=3)
    return (images + light).clamp(0, 1)


def painted(data: LabelledImages, rows: Tensor, amounts: Tensor) -> Tensor:
    """The images anew, with other attributes than their own, in the data's range."""
    low, high = data.value_range
    images = (data.__getitems__(rows.tolist())["image"] - low) / (high - low)
    own = data.labels[rows][:, None, None, :].repeat_interleave(SIDE, dim=3)
    return paint(images - 0.8 * own, amounts) * (high - low) + low
