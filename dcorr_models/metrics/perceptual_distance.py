"""How far apart two images look to a network: distances in the form of LPIPS, each with its name.

A number is LPIPS only with the network and the linear weights that were published as LPIPS. The
name of a distance says which they were, by the content of the files, and belongs beside the number.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

from dcorr_models.errors import CheckpointError, UserError
from dcorr_models.nets.feature_taps import FeatureTaps
from dcorr_models.nets.perceptual import VGG16_LPIPS_TAPS, alexnet, efficientnet_lite0, vgg16
from dcorr_models.nets.pretrained import fingerprint, read_weights

__all__ = [
    "DISTANCES",
    "ImageDistance",
    "PerceptualDistance",
    "PixelDistance",
    "image_distance",
    "lpips_weights",
]

DISTANCES = ("l1", "mse", "vgg16", "efficientnet_lite0", "lpips_alex", "lpips_vgg")
"""The names that `image_distance` knows."""

_EPSILON = 1e-10
_CHUNK = 64
# What was published as LPIPS v0.1: torchvision's networks and the linear weights, by content.
_LPIPS = {
    ("alexnet 7be5be79", "df73285e"): "LPIPS (AlexNet, v0.1)",
    ("vgg16 397923af", "a78928a0"): "LPIPS (VGG-16, v0.1)",
}


class ImageDistance(Protocol):
    """What compares images pairwise: called with two tensors (N, C, H, W), it returns (N,)."""

    name: str

    def __call__(self, x: Tensor, y: Tensor, /) -> Tensor:
        """Distances, 0 for equal images, higher for images less alike."""


class PixelDistance:
    """Mean over channels and pixels of `abs(x - y)`, or of `(x - y)²`.

    Args:
        norm: `l1` or `mse`.

    Example:
        >>> distance = PixelDistance("mse")
        >>> distance(torch.zeros(2, 1, 2, 2), torch.full((2, 1, 2, 2), 0.5)).tolist()
        [0.25, 0.25]
    """

    def __init__(self, norm: Literal["l1", "mse"] = "l1") -> None:
        if norm not in ("l1", "mse"):
            raise UserError(f"norm must be one of l1, mse, got {norm!r}")
        self.norm = norm
        self.name = {"l1": "pixel L1", "mse": "pixel MSE"}[norm]

    @torch.no_grad()
    def __call__(self, x: Tensor, y: Tensor, /) -> Tensor:
        """(N,) distances."""
        _check_pair(x, y)
        difference = x - y
        return (difference.abs() if self.norm == "l1" else difference.square()).flatten(1).mean(1)


class PerceptualDistance:
    """The distance of LPIPS's form over the feature maps f_l of any network.

    With n_l the maps divided by their length at each position, `n = f / (‖f‖₂ + 1e-10)`,

        d(x, y) = Σ_l mean_{hw} Σ_c w_lc (n_l(x) - n_l(y))²_{chw},

    in float32, also under autocast. Without linear weights w = 1, and a tap counts from 0 to 4.

    Args:
        features: the network, on the device where it is to run.
        linear: w_l of each tap, (C_l,) each.
        name: what every table shows beside a number; by default made of the network's name, with
            the words "not LPIPS".

    Reference:
        Zhang, Isola, Efros, Shechtman and Wang 2018, "The unreasonable effectiveness of deep
        features as a perceptual metric", Eq. 1.

    Example:
        >>> network = FeatureTaps(torch.nn.Identity(), name="pixels")
        >>> distance = PerceptualDistance(network)
        >>> red, green = torch.eye(3)[:2].reshape(2, 1, 3, 1, 1).expand(2, 1, 3, 4, 4)
        >>> distance.name, distance(red, green).item(), distance(red, 0.5 * red).item()
        ('pixels, unit-normalised channels (not LPIPS)', 2.0, 0.0)
    """

    def __init__(
        self,
        features: FeatureTaps,
        *,
        linear: Sequence[Tensor] | None = None,
        name: str | None = None,
    ) -> None:
        self.features = features
        self.linear = None if linear is None else [weight.flatten() for weight in linear]
        form = "unit-normalised channels" + ("" if linear is None else ", linear weights")
        self.name = name or f"{features.name}, {form} (not LPIPS)"

    def to(self, device: torch.device | str) -> PerceptualDistance:
        """Moves the network; returns the distance itself."""
        self.features.to(device)
        return self

    @torch.no_grad()
    def __call__(self, x: Tensor, y: Tensor, /) -> Tensor:
        """(N,) distances, on the device of x.

        Raises:
            ValueError: Shapes that differ or that the network does not take; linear weights that
                do not fit the feature maps.
        """
        _check_pair(x, y)
        parts = zip(torch.split(x, _CHUNK), torch.split(y, _CHUNK), strict=True)
        return torch.cat([self._of_some(a, b) for a, b in parts]).to(x.device)

    def _of_some(self, x: Tensor, y: Tensor) -> Tensor:
        device = self.features.factor.device
        with torch.autocast(device.type, enabled=False):
            maps = [self.features(images.to(device)) for images in (x, y)]
            weights: Sequence[Tensor | None] = self.linear or [None] * len(maps[0])
            if len(weights) != len(maps[0]):
                raise ValueError(
                    f"linear weights are of {len(weights)} taps, {self.features.name} has "
                    f"{len(maps[0])}"
                )
            terms = [_tap(*tap) for tap in zip(*maps, weights, strict=True)]
        return torch.stack(terms).sum(dim=0)


def lpips_weights(network: Literal["alexnet", "vgg16"]) -> Path:
    """The file of LPIPS's linear weights, version 0.1, that torchmetrics brings.

    Raises:
        UserError: torchmetrics is not installed, or brings no such file.
    """
    spec = find_spec("torchmetrics")
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent / "functional" / "image" / "lpips_models"
        path = folder / {"alexnet": "alex.pth", "vgg16": "vgg.pth"}[network]
        if path.is_file():
            return path
    raise UserError(
        "there are no linear weights of LPIPS: pip install 'dcorr[eval]' (torchmetrics has them), "
        "or name a file of lin0.model.1.weight and so on"
    )


def image_distance(
    name: str,
    *,
    weights: str | Path | None = None,
    linear: str | Path | None = None,
    value_range: tuple[float, float] = (0.0, 1.0),
) -> PixelDistance | PerceptualDistance:
    """A distance by its name.

    `l1` and `mse` of pixels; `vgg16` and `efficientnet_lite0` in LPIPS's form without linear
    weights; `lpips_alex` and `lpips_vgg` with them. The last two are called LPIPS only if both
    files are the published ones.

    Args:
        name: one of `DISTANCES`.
        weights: of the network, see `nets.perceptual.vgg16`.
        linear: file of linear weights, `lin0.model.1.weight` and so on; for `lpips_alex` and
            `lpips_vgg` those of torchmetrics by default.
        value_range: lowest and highest value of the images.

    Raises:
        UserError: An unknown name, or weights that are not there.
        CheckpointError: A file that holds something else.

    Example:
        >>> image_distance("efficientnet_lite0").name
        'efficientnet_lite0 57934424, unit-normalised channels (not LPIPS)'
    """
    if name == "l1" or name == "mse":
        return PixelDistance("l1" if name == "l1" else "mse")
    if name == "efficientnet_lite0":
        features = efficientnet_lite0(weights, value_range=value_range)
    elif name == "lpips_alex":
        features = alexnet(weights, value_range=value_range)
        linear = linear or lpips_weights("alexnet")
    elif name in ("vgg16", "lpips_vgg"):
        features = vgg16(
            weights, taps=VGG16_LPIPS_TAPS, normalisation="imagenet", value_range=value_range
        )
        linear = linear or (lpips_weights("vgg16") if name == "lpips_vgg" else None)
    else:
        raise UserError(f"distance must be one of {', '.join(DISTANCES)}, got {name!r}")
    if linear is None:
        return PerceptualDistance(features)
    path = Path(linear)
    file = fingerprint(path) if path.is_file() else ""
    return PerceptualDistance(
        features,
        linear=_read_linear(path),
        name=_LPIPS.get(
            (features.name, file),
            f"{features.name}, LPIPS's form with linear weights {file} (not LPIPS)",
        ),
    )


def _read_linear(path: Path) -> list[Tensor]:
    content = read_weights(path)
    linear: list[Tensor] = []
    while (key := f"lin{len(linear)}.model.1.weight") in content:
        linear.append(content[key].float().flatten())
    if not linear:
        raise CheckpointError(
            f"{path} holds no linear weights of LPIPS: wanted lin0.model.1.weight and so on"
        )
    return linear


def _tap(a: Tensor, b: Tensor, weight: Tensor | None) -> Tensor:
    """(N,) of one tap."""
    if weight is not None and len(weight) != a.shape[1]:
        raise ValueError(f"linear weights are of {len(weight)} channels, the tap has {a.shape[1]}")
    difference = (_unit(a) - _unit(b)).square()
    if weight is not None:
        difference = difference * weight.to(a.device, a.dtype).reshape(1, -1, 1, 1)
    return difference.sum(dim=1).flatten(1).mean(dim=1)


def _unit(maps: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(maps, dim=1, keepdim=True)
    return maps / (lengths + _EPSILON)


def _check_pair(x: Tensor, y: Tensor) -> None:
    if x.shape != y.shape or x.ndim != 4:
        raise ValueError(
            f"x and y need the same shape (N, C, H, W), got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    if not (x.is_floating_point() and y.is_floating_point()):
        raise TypeError(f"x and y must be floating point, got {x.dtype} and {y.dtype}")
