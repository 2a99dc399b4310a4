"""LORD's networks: a generator that a class modulates through AdaIN, and plain encoders."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcorr_models.nets.initialisation import LAYERS

__all__ = [
    "ARCHITECTURES",
    "Adain",
    "Architecture",
    "LordEncoder",
    "LordGenerator",
    "Modulation",
    "adain",
    "init_glorot",
]

Adain = Literal["variance", "deviation"]
_KERAS_EPS, _PORT_EPS = 1e-7, 1e-5


class Architecture(NamedTuple):
    """Sizes of generator and encoders; the default is that of both releases at 64 pixels."""

    base: tuple[int, int] = (256, 4)
    """Channels and side of the generator's first maps."""
    generator_dense: tuple[int, ...] = (512, 1024)
    adain_widths: tuple[int, ...] = (256, 256, 256, 256)
    """Channels after each doubling; the images' side is the base's, doubled so many times."""
    late_width: int = 64
    late_kernels: tuple[int, int] = (5, 7)
    encoder_first: tuple[int, int] = (64, 7)
    """Channels and kernel of the encoders' first convolution, of stride 1."""
    encoder_widths: tuple[int, ...] = (128, 256, 256, 256)
    """Channels after each halving."""
    encoder_dense: tuple[int, ...] = (256, 256)

    @property
    def side(self) -> int:
        """Height and width of the generator's images."""
        return int(self.base[1] * 2 ** len(self.adain_widths))


ARCHITECTURES = {
    "lord64": Architecture(),
    "lord128": Architecture(adain_widths=(256,) * 5),
    "sprites_small": Architecture(
        base=(64, 4),
        generator_dense=(128,),
        adain_widths=(64, 32, 16),
        late_width=16,
        late_kernels=(3, 3),
        encoder_first=(16, 5),
        encoder_widths=(32, 64, 64),
        encoder_dense=(128,),
    ),
}
"""`lord64` of the releases; `lord128`, one AdaIN layer more; `sprites_small`, 32 px, for a CPU."""


def adain(x: Tensor, shift: Tensor, scale: Tensor, form: Adain) -> Tensor:
    r"""Each map normalised over its pixels, then scaled and shifted as the class says.

    .. math::
        \mathrm{scale} \cdot \frac{x - \mu}{\sqrt{v + 10^{-5}}} + \mathrm{shift}
        \quad\text{or}\quad
        \mathrm{scale} \cdot \frac{x - \mu}{\sqrt{v} + 10^{-7}} + \mathrm{shift}

    with the mean and the biased variance of each map. The scale has no 1 added to it.

    Args:
        x: maps (N, C, H, W).
        shift: (N, C).
        scale: (N, C).
        form: `variance`, the first, of the PyTorch port, or `deviation`, of the Keras release.

    Returns:
        (N, C, H, W); a constant map becomes `shift`.

    Gradient:
        A constant map gets none through its deviation, where a root would give an infinite one.

    Example:
        >>> x = torch.tensor([1.0, 3.0]).reshape(1, 1, 1, 2)
        >>> out = adain(x, torch.tensor([[5.0]]), torch.tensor([[2.0]]), "deviation")
        >>> [round(value, 4) for value in out.flatten().tolist()]
        [3.0, 7.0]
    """
    if form == "variance":
        normal = F.instance_norm(x, eps=_PORT_EPS)
    else:
        variance, mean = torch.var_mean(x, dim=(2, 3), correction=0, keepdim=True)
        # The clamp cuts the gradient where the variance is 0.
        normal = (x - mean) / (variance.clamp(min=1e-30).sqrt() + _KERAS_EPS)
    return torch.addcmul(shift[:, :, None, None], normal, scale[:, :, None, None])


class Modulation(nn.Module):
    """One linear map an AdaIN layer: the class code to a shift and a scale for each channel.

    Args:
        class_dim: size of the class code.
        widths: channels of each layer.

    Example:
        >>> [(a.shape[1], b.shape[1]) for a, b in Modulation(4, (8, 2))(torch.zeros(1, 4))]
        [(8, 8), (2, 2)]
    """

    def __init__(self, class_dim: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(class_dim, 2 * width) for width in widths])

    def forward(self, class_codes: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(shift, scale) of each layer: even outputs shift, odd ones scale."""
        pairs = [layer(class_codes).unflatten(1, (-1, 2)) for layer in self.layers]
        return [(pair[..., 0], pair[..., 1]) for pair in pairs]


class LordGenerator(nn.Module):
    """(class code, content code) to images in [0, 1].

    The content enters through the first dense layer alone, the class through AdaIN alone.

    Args:
        image_shape: channels, height and width; the sides are those of the architecture.
        sizes: the architecture.
        class_dim: size of the class code.
        content_dim: size of the content code.
        slope: of the LeakyReLUs: 0.3 in the Keras release, 0.01 in the port.
        form: see `adain`.

    Example:
        >>> net = LordGenerator((3, 32, 32), ARCHITECTURES["sprites_small"], 5, 7)
        >>> net(torch.zeros(2, 5), torch.zeros(2, 7)).shape
        torch.Size([2, 3, 32, 32])
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        sizes: Architecture,
        class_dim: int,
        content_dim: int,
        *,
        slope: float = 0.01,
        form: Adain = "variance",
    ) -> None:
        super().__init__()
        self.slope, self.form = slope, form
        channels, side = sizes.base
        self.base = (channels, side, side)
        features = [content_dim, *sizes.generator_dense, channels * side * side]
        self.dense = nn.ModuleList([nn.Linear(a, b) for a, b in pairwise(features)])
        widths = (channels, *sizes.adain_widths)
        self.blocks = nn.ModuleList([nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths)])
        self.modulation = Modulation(class_dim, sizes.adain_widths)
        first, last = sizes.late_kernels
        self.late = nn.Conv2d(widths[-1], sizes.late_width, first, padding=first // 2)
        self.last = nn.Conv2d(sizes.late_width, image_shape[0], last, padding=last // 2)

    def forward(self, class_codes: Tensor, content_codes: Tensor) -> Tensor:
        """(N, class_dim), (N, content_dim) to (N, C, H, W)."""
        x = content_codes
        for layer in self.dense:
            x = F.leaky_relu(layer(x), self.slope)
        x = x.reshape(-1, *self.base)
        for block, (shift, scale) in zip(self.blocks, self.modulation(class_codes), strict=True):
            x = F.leaky_relu(block(F.interpolate(x, scale_factor=2.0)), self.slope)
            x = adain(x, shift, scale, self.form)
        x = F.leaky_relu(self.late(x), self.slope)
        return torch.sigmoid(self.last(x))


class LordEncoder(nn.Sequential):
    """Images to one code: a convolution of stride 1, halving ones, dense layers; no norm.

    Args:
        image_shape: channels, height and width.
        sizes: the architecture.
        out: size of the code.
        slope: of the LeakyReLUs.

    Example:
        >>> net = LordEncoder((3, 32, 32), ARCHITECTURES["sprites_small"], 7)
        >>> net(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 7])
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        sizes: Architecture,
        out: int,
        *,
        slope: float = 0.01,
    ) -> None:
        channels, height, width = image_shape
        first, kernel = sizes.encoder_first
        layers: list[nn.Module] = [nn.Conv2d(channels, first, kernel, padding=kernel // 2)]
        widths = (first, *sizes.encoder_widths)
        for a, b in pairwise(widths):
            layers += [nn.LeakyReLU(slope), nn.Conv2d(a, b, 4, stride=2, padding=1)]
        halvings = 2 ** len(sizes.encoder_widths)
        layers += [nn.LeakyReLU(slope), nn.Flatten()]
        features = [widths[-1] * (height // halvings) * (width // halvings), *sizes.encoder_dense]
        for a, b in pairwise(features):
            layers += [nn.Linear(a, b), nn.LeakyReLU(slope)]
        super().__init__(*layers, nn.Linear(features[-1], out))


@torch.no_grad()
def init_glorot(network: nn.Module) -> None:
    """Weights uniform in ±√(6 / (fan in + fan out)), biases 0: the default of Keras.

    Example:
        >>> layer = nn.Linear(4, 2)
        >>> init_glorot(layer)
        >>> bool(layer.weight.abs().max() <= 1), layer.bias.abs().max().item()
        (True, 0.0)
    """
    for layer in network.modules():
        if isinstance(layer, LAYERS):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                layer.bias.zero_()
