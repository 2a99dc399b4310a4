"""Reconstruction losses: pixels, or the features of a network that was trained on ImageNet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from dcorr_models.errors import UserError
from dcorr_models.nets.feature_taps import FeatureTaps
from dcorr_models.nets.perceptual import (
    EFFICIENTNET_LITE0_TAPS,
    VGG16_LORD_TAPS,
    efficientnet_lite0,
    vgg16,
)
from dcorr_models.nets.pretrained import torchvision_file
from dcorr_models.settings import Configurable

__all__ = ["COLUMNS", "Column", "PerceptualLoss", "PixelLoss", "reconstruction_loss"]

Norm = Literal["l1", "mse"]
Reduction = Literal["mean", "sum", "none"]


class Column(NamedTuple):
    """How one of LORD's sources weighs the features of VGG-16, and what it shows the network."""

    caffe: bool  # inputs and weights are Caffe's: 0 to 255, less the mean
    tap_weight: float
    pixel_weight: float


COLUMNS = {
    "keras": Column(caffe=True, tap_weight=0.2, pixel_weight=0.0),
    "port": Column(caffe=False, tap_weight=1.0, pixel_weight=1.0),
    # Not said but for "as implemented by Hoshen and Malik 2019". The paper's λ goes with the Keras
    # release's scale of the loss, in which its table 5 is, too.
    "paper": Column(caffe=True, tap_weight=0.2, pixel_weight=0.0),
}
"""LORD's Keras release, its PyTorch port, and the paper."""

_CAFFE_FILE = "88682ab5"  # torchvision's IMAGENET1K_FEATURES: Caffe's weights, channels as RGB
_TORCHVISION_FILE = "397923af"  # IMAGENET1K_V1


class PixelLoss(Configurable, nn.Module):
    """The mean over channels and pixels of `abs(x̂ - x)`, or of `(x̂ - x)²`.

    Args:
        norm: `l1` or `mse`.
        reduction: over the images: their `mean`, their `sum`, or `none`, a number each.

    Example:
        >>> PixelLoss(norm="mse")(torch.zeros(2, 1, 2, 2), torch.full((2, 1, 2, 2), 3.0)).item()
        9.0
    """

    def __init__(self, *, norm: Norm = "l1", reduction: Reduction = "mean") -> None:
        super().__init__()
        _check_words(norm, reduction)
        self.norm, self.reduction = norm, reduction
        self.name = {"l1": "pixel L1", "mse": "pixel MSE"}[norm]

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """(N, C, H, W) images and what they should be: a scalar, or (N,)."""
        _check_pair(x_hat, x)
        return _reduce(_difference(x_hat, x, self.norm), self.reduction)


class PerceptualLoss(Configurable, nn.Module):
    """Distance of images by the features of a frozen network, with a gradient for x̂.

    With feature maps f_l (C_l, H_l, W_l) of the taps l,

        loss(x̂, x) = Σ_l w_l mean_{chw} abs(f_l(x̂) - f_l(x)) + w_pixel mean_{chw} abs(x̂ - x),

    for each image, and then the mean over the images. LORD's Keras release (`keras`) shows VGG-16
    images from 0 to 255, less Caffe's means, with w_l = 1/5 and w_pixel = 0; its PyTorch port
    (`port`) shows it images as they are, from 0 to 1, with w_l = w_pixel = 1; the paper does not
    say (`paper`: as `keras`, in whose scale its other weights are). The scales are far apart: a
    weight of another term in a loss belongs to one column.

    Hand it to a stage as one of its `fixed` networks: it then follows the device, the memory format
    and compilation, learns nothing, and is in no checkpoint. `with fabric.autocast():` around the
    call lets the network run in the precision of the run; the differences are float32 in any case.

    Args:
        features: `vgg16` or `efficientnet_lite0` (see `nets.perceptual`), a `FeatureTaps`, or any
            module from images (N, 3, H, W) in [0, 1] to a feature map or a list of them. It is
            frozen in place.
        weights: of a named network: a file or a name, see `nets.perceptual.vgg16`. By default
            torchvision's file in torch's cache: the one trained by torchvision, or Caffe's for
            `keras` and `paper`.
        column: weights of taps and pixels, and VGG-16's input, of a published code. For networks
            other than VGG-16 the weights alone: what they are shown is their own.
        taps: layers of a named network. A side of 32 pixels is enough for all five: they have
            32, 16, 8, 4 and 1 pixels a side in VGG-16 and 16, 8, 4, 2 and 1 in EfficientNet-lite0.
            Smaller images need the last ones left out.
        tap_weights: w_l, one for each tap; the column's by default, its 1/5 for each of five taps.
        pixel_weight: w_pixel; the column's by default.
        normalisation: what the network is shown, a name in `nets.feature_taps.NORMALISATIONS`;
            by default the column's for VGG-16.
        norm: of all differences: `l1`, or `mse`, their squares.
        reduction: over the images: `mean`, `sum` (as the paper's Σ_i), or `none`, a number each.
        value_range: lowest and highest value of the images, unless `features` is a `FeatureTaps`,
            which has its own. The pixel term is of images mapped to [0, 1], too.

    Raises:
        UserError: No weights, weights that do not belong to the column, weights of taps that do
            not fit their number, a word that is none of the known ones.

    Gradient:
        For x̂ alone; x is a constant. 0 where features are equal (`l1`: the sign of 0).

    Reference:
        Gabbay and Hoshen 2020 (LORD), first term of Eq. 6; Hoshen and Malik 2019.

    Example:
        >>> loss = PerceptualLoss("vgg16", weights="random", taps=("relu1_2", "pool2"))
        >>> x = torch.linspace(0, 1, 192).reshape(1, 3, 8, 8)
        >>> loss(x, x).item(), bool(loss(1 - x, x) > 0)
        (0.0, True)
        >>> any(parameter.requires_grad for parameter in loss.parameters())
        False
    """

    def __init__(
        self,
        features: Literal["vgg16", "efficientnet_lite0"] | nn.Module = "vgg16",
        *,
        weights: str | Path | None = None,
        column: Literal["keras", "port", "paper"] = "port",
        taps: tuple[str, ...] | None = None,
        tap_weights: tuple[float, ...] | None = None,
        pixel_weight: float | None = None,
        normalisation: Literal["raw", "imagenet", "caffe", "caffe_bgr", "lite"] | None = None,
        norm: Norm = "l1",
        reduction: Reduction = "mean",
        value_range: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        super().__init__()
        _check_words(norm, reduction)
        if column not in COLUMNS:
            raise UserError(f"column must be one of {', '.join(COLUMNS)}, got {column!r}")
        chosen = COLUMNS[column]
        if isinstance(features, nn.Module):
            if (weights, taps, normalisation) != (None, None, None):
                raise UserError(
                    "weights, taps and normalisation are of the named networks: a module brings "
                    "its own (nets.feature_taps.FeatureTaps takes a normalisation)"
                )
            if not isinstance(features, FeatureTaps):
                features = FeatureTaps(features, value_range=value_range)
            self.features = features
        elif features == "vgg16":
            self.features = _column_vgg16(chosen, weights, taps, normalisation, value_range)
        elif features == "efficientnet_lite0":
            self.features = efficientnet_lite0(
                weights,
                taps=taps or EFFICIENTNET_LITE0_TAPS,
                normalisation=normalisation or "lite",
                value_range=value_range,
            )
        else:
            raise UserError(
                "features must be vgg16, efficientnet_lite0 or a module of yours, got "
                f"{features!r} (l1 and mse are PixelLoss)"
            )
        self.column, self.norm, self.reduction = column, norm, reduction
        known = getattr(self.features.network, "taps", None)
        if tap_weights is not None and known is not None and len(tap_weights) != len(known):
            raise UserError(
                f"tap_weights need one number for each of the {len(known)} taps "
                f"{', '.join(known)}, got {len(tap_weights)}"
            )
        self.tap_weights = None if tap_weights is None else tuple(tap_weights)
        self.tap_weight = chosen.tap_weight
        self.pixel_weight = chosen.pixel_weight if pixel_weight is None else pixel_weight
        low, high = self.features.value_range
        self.pixel_scale = 1 / (high - low) ** (1 if norm == "l1" else 2)
        self.name = f"{self.features.name}, {column}"

    def train(self, mode: bool = True) -> PerceptualLoss:
        """Stays in evaluation mode."""
        return super().train(False)

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """(N, C, H, W) images and what they should be: a scalar, or (N,); float32.

        Raises:
            ValueError: Shapes that differ or that the network does not take; a number of feature
                maps other than that of `tap_weights`.
        """
        _check_pair(x_hat, x)
        with torch.no_grad():
            wanted = self.features(x)
        got = self.features(x_hat)
        weights: Sequence[float] = self.tap_weights or (self.tap_weight,) * len(got)
        if len(weights) != len(got):
            raise ValueError(f"tap_weights are {len(weights)}, feature maps {len(got)}")
        total = sum(
            weight * _difference(a, b, self.norm)
            for weight, a, b in zip(weights, got, wanted, strict=True)
        )
        if self.pixel_weight:
            pixel = _difference(x_hat, x.detach(), self.norm)
            total = total + self.pixel_weight * self.pixel_scale * pixel
        assert isinstance(total, Tensor)
        return _reduce(total, self.reduction)


def reconstruction_loss(
    reconstruction: Literal["l1", "mse", "vgg16", "efficientnet_lite0"] | nn.Module,
    *,
    weights: str | Path | None = None,
    column: Literal["keras", "port", "paper"] = "port",
    value_range: tuple[float, float] = (0.0, 1.0),
) -> nn.Module:
    """The loss that a method's argument `reconstruction` names or is: called with (x̂, x), a scalar.

    Args:
        reconstruction: `l1`, `mse`, `vgg16`, `efficientnet_lite0`; a `FeatureTaps`, whose features
            are compared; or any other module, which is the loss itself. A module is frozen in
            place: its parameters take no gradient.
        weights: see `PerceptualLoss`.
        column: see `PerceptualLoss`.
        value_range: lowest and highest value of the images.

    Raises:
        UserError: An unknown name, or a network without weights.

    Example:
        >>> reconstruction_loss("l1")(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)).item()
        1.0
    """
    if isinstance(reconstruction, nn.Module):
        if not isinstance(reconstruction, FeatureTaps):
            return reconstruction.eval().requires_grad_(False)
    elif reconstruction in ("l1", "mse"):
        return PixelLoss(norm=reconstruction)
    elif reconstruction not in ("vgg16", "efficientnet_lite0"):
        raise UserError(
            "reconstruction must be one of l1, mse, vgg16, efficientnet_lite0, or a module, got "
            f"{reconstruction!r}"
        )
    return PerceptualLoss(reconstruction, weights=weights, column=column, value_range=value_range)


def _column_vgg16(
    column: Column,
    weights: str | Path | None,
    taps: tuple[str, ...] | None,
    normalisation: str | None,
    value_range: tuple[float, float],
) -> FeatureTaps:
    """VGG-16 as a column shows it images; weights that were trained on others are refused."""
    if weights is None and column.caffe:
        weights = torchvision_file("vgg16", "IMAGENET1K_FEATURES", download=False)
    built = vgg16(weights, taps=taps or VGG16_LORD_TAPS, value_range=value_range)
    file = built.name.rpartition(" ")[2]
    if normalisation is None:
        if file == (_TORCHVISION_FILE if column.caffe else _CAFFE_FILE):
            raise UserError(
                f"{built.name} was trained on another input than this column's: keras and paper go "
                "with Caffe's weights (IMAGENET1K_FEATURES, or Keras's own), port with "
                "torchvision's (IMAGENET1K_V1); or set normalisation"
            )
        # Keras and Caffe keep the first layer's channels as blue, green, red.
        caffe = "caffe" if file == _CAFFE_FILE else "caffe_bgr"
        normalisation = caffe if column.caffe else "raw"
    return FeatureTaps(
        built.network,
        name=built.name,
        normalisation=normalisation,
        value_range=value_range,
        smallest_side=built.smallest_side,
    )


def _difference(a: Tensor, b: Tensor, norm: Norm) -> Tensor:
    """(N,) mean differences of tensors (N, ...), in float32 or better also under autocast."""
    if a.dtype != torch.float64:
        a, b = a.float(), b.float()
    difference = a - b
    return (difference.abs() if norm == "l1" else difference.square()).flatten(1).mean(dim=1)


def _reduce(losses: Tensor, reduction: Reduction) -> Tensor:
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


def _check_words(norm: str, reduction: str) -> None:
    for name, value, known in (
        ("norm", norm, ("l1", "mse")),
        ("reduction", reduction, ("mean", "sum", "none")),
    ):
        if value not in known:
            raise UserError(f"{name} must be one of {', '.join(known)}, got {value!r}")


def _check_pair(x_hat: Tensor, x: Tensor) -> None:
    if x_hat.shape != x.shape or x.ndim != 4:
        raise ValueError(
            f"x_hat and x need the same shape (N, C, H, W), got {tuple(x_hat.shape)} and "
            f"{tuple(x.shape)}"
        )
