"""A frozen network read at several layers: what perceptual losses and distances compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dcorr_models.errors import UserError

__all__ = ["NORMALISATIONS", "FeatureTaps", "Normalisation", "TappedLayers"]


@dataclass(frozen=True)
class Normalisation:
    """What a network was trained to see: `(scale · x - mean) / std`, for x in [0, 1].

    Args:
        mean: of the three channels, in the order in which the network reads them.
        std: of the three channels.
        scale: of the images.
        bgr: the network reads blue, green, red.
    """

    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    scale: float = 1.0
    bgr: bool = False


NORMALISATIONS = {
    "raw": Normalisation(),
    "imagenet": Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "caffe": Normalisation((123.68, 116.779, 103.939), scale=255.0),
    "caffe_bgr": Normalisation((103.939, 116.779, 123.68), scale=255.0, bgr=True),
    "lite": Normalisation((0.498, 0.498, 0.498), (0.502, 0.502, 0.502)),
}
"""By name: as they are, torchvision's, Caffe's in both orders of channels, EfficientNet-lite's."""


class TappedLayers(nn.Module):
    """Layers one after the other; the outputs of some of them are the result.

    Args:
        layers: by their names, in order; those after the last tap are left out.
        taps: names of layers.

    Raises:
        UserError: A tap that is no layer, or none at all.

    Example:
        >>> net = TappedLayers({"conv": nn.Conv2d(3, 2, 1), "relu": nn.ReLU()}, ["relu"])
        >>> [tuple(maps.shape) for maps in net(torch.zeros(1, 3, 4, 4))]
        [(1, 2, 4, 4)]
    """

    def __init__(self, layers: dict[str, nn.Module], taps: Sequence[str]) -> None:
        super().__init__()
        names = list(layers)
        unknown = [tap for tap in taps if tap not in names]
        if unknown or not taps:
            raise UserError(
                f"taps must be some of {', '.join(names)}, got {', '.join(map(repr, taps)) or '()'}"
            )
        self.positions = tuple(sorted({names.index(tap) for tap in taps}))
        self.taps = tuple(names[position] for position in self.positions)
        # `features` by number: the names of torchvision's state dicts.
        self.features = nn.Sequential(*list(layers.values())[: self.positions[-1] + 1])

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, C, H, W) images to one tensor (N, C_l, H_l, W_l) a tap, in the layers' order."""
        maps = []
        for position, layer in enumerate(self.features):
            images = layer(images)
            if position in self.positions:
                maps.append(images)
        return maps


class FeatureTaps(nn.Module):
    """A frozen network that turns images of a known range into feature maps.

    The parameters take no gradient, and the network stays in evaluation mode whatever `train` is
    told; gradients flow through it to the images. Grey images are given to it as three equal
    channels. It runs in the type of its parameters, and in lower precision under autocast.

    Args:
        network: takes normalised images (N, 3, H, W), returns a tensor or a list of tensors with
            the batch first. It is frozen in place.
        name: what tables call it; a class's name by default.
        normalisation: a name in `NORMALISATIONS`, or numbers of your own.
        value_range: lowest and highest value of the images that come in.
        smallest_side: images with a side below it are refused.

    Raises:
        UserError: An unknown normalisation, or an empty `value_range`.

    Example:
        >>> net = FeatureTaps(nn.Conv2d(3, 2, 1), name="one layer", value_range=(-1, 1))
        >>> [tuple(maps.shape) for maps in net(torch.zeros(1, 1, 4, 4))]
        [(1, 2, 4, 4)]
    """

    factor: Tensor
    offset: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str | None = None,
        normalisation: str | Normalisation = "raw",
        value_range: tuple[float, float] = (0.0, 1.0),
        smallest_side: int = 1,
    ) -> None:
        super().__init__()
        low, high = value_range
        if not low < high:
            raise UserError(f"value_range needs low < high, got {value_range}")
        if isinstance(normalisation, str):
            if normalisation not in NORMALISATIONS:
                raise UserError(
                    f"normalisation must be one of {', '.join(NORMALISATIONS)}, got "
                    f"{normalisation!r}"
                )
            normalisation = NORMALISATIONS[normalisation]
        self.name = name or type(network).__name__
        self.value_range = (float(low), float(high))
        self.smallest_side = smallest_side
        self.network = network.requires_grad_(False)
        # (scale (x - low) / (high - low) - mean) / std as one product and one sum
        self.bgr = normalisation.bgr
        mean, std = (
            torch.tensor(v).reshape(3, 1, 1) for v in (normalisation.mean, normalisation.std)
        )
        factor = normalisation.scale / (high - low) / std
        self.register_buffer("factor", factor)
        self.register_buffer("offset", -mean / std - low * factor)
        self.eval()

    def train(self, mode: bool = True) -> FeatureTaps:
        """Stays in evaluation mode."""
        return super().train(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (N, 1 or 3, H, W) in `value_range` to a list of feature maps.

        Raises:
            ValueError: Images of another shape, or too small for the last tap.
        """
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise ValueError(
                f"{self.name} takes images (N, 3, H, W) or grey ones (N, 1, H, W), got "
                f"{tuple(images.shape)}"
            )
        if min(images.shape[-2:]) < self.smallest_side:
            raise ValueError(
                f"{self.name} takes images of side {self.smallest_side} or more, got "
                f"{tuple(images.shape[-2:])}: leave out its last taps, which have no pixels there"
            )
        images = images.to(self.factor.dtype).expand(-1, 3, -1, -1)
        if self.bgr:
            images = images.flip(1)
        maps = self.network(images * self.factor + self.offset)
        return [maps] if isinstance(maps, Tensor) else list(maps)
