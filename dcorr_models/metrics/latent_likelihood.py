"""Do drawn images keep the numbers they were drawn with? ID-GAN's L_ID, and GILBO."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcorr_models.metrics.convnet import check_images, forget_batch_statistics, strided_trunk
from dcorr_models.metrics.probes import check_codes

__all__ = ["CodeLikelihood", "Gilbo", "code_log_likelihood", "gilbo"]

_WIDTH = 256
_LARGEST_SIDE = 64
_PEAK_RATE = 2e-3
_WIDEST = 10.0  # of a log-variance
_CHUNK = 500
_SETTLING = 20  # batches over which the batch norms' final statistics are taken


class CodeLikelihood(TypedDict):
    """What `code_log_likelihood` returns."""

    log_likelihood: float
    per_dimension: list[float]
    samples: int
    dimensions: int


class Gilbo(CodeLikelihood):
    """What `gilbo` returns."""

    steps: int
    batch: int
    seed: int


def code_log_likelihood(codes: Tensor, mean: Tensor, logvar: Tensor) -> CodeLikelihood:
    r"""How probable an encoder finds the codes that images were drawn with.

    $\mathbb{E}_c \bigl[\log q(c \mid G(c))\bigr]
    = -\tfrac{1}{2} \mathbb{E} \sum_d \bigl(\log 2\pi + v_d + (c_d - \mu_d)^2 e^{-v_d}\bigr)$
    in nats, with mean and log-variance $v$ that the encoder gives a drawn image. With the encoder
    that a generator was trained to satisfy it is ID-GAN's $L_{ID}$; with one trained anew it is
    GILBO. Add the entropy of the codes, which neither counts, and it bounds the mutual information
    of code and image from below. It has no upper limit: an encoder that is sure counts more.

    Args:
        codes: Float (N, D), what the images were drawn with: sampled codes, not their means.
        mean: Float (N, D), what the encoder says of the drawn images.
        logvar: Float (N, D).

    Returns:
        A dict: `log_likelihood`, higher is better; `per_dimension`, its terms; the sizes.

    Raises:
        ValueError: If shapes differ, or a number is NaN or infinite.
        TypeError: If an argument is not floating point.

    Reference:
        Lee et al. (ID-GAN), 2020, equation 7 and Table 3.

    Example:
        >>> codes = torch.zeros(4, 2)
        >>> round(code_log_likelihood(codes, codes, codes)["log_likelihood"], 4)  # −log 2π
        -1.8379
    """
    for name, given in (("codes", codes), ("mean", mean), ("logvar", logvar)):
        check_codes(name, given)
        if given.shape != codes.shape:
            raise ValueError(
                f"codes and {name} need one shape, got {tuple(codes.shape)} and "
                f"{tuple(given.shape)}"
            )
    c, mu, v = (given.detach().cpu().double() for given in (codes, mean, logvar))
    each = -0.5 * (math.log(2 * math.pi) + v + (c - mu).square() * (-v).exp()).mean(dim=0)
    return {
        "log_likelihood": each.sum().item(),
        "per_dimension": each.tolist(),
        "samples": len(c),
        "dimensions": c.shape[1],
    }


@torch.enable_grad()
def gilbo(
    draw: Callable[[int], tuple[Tensor, Tensor]],
    *,
    value_range: tuple[float, float] = (0.0, 1.0),
    steps: int = 1_000,
    batch: int = 64,
    held_out: int = 2_000,
    seed: int = 0,
) -> Gilbo:
    """The generative information lower bound: what a new encoder reads of the codes.

    Protocol. 3x3 convolutions of stride 2 (`strided_trunk`), 256 features, one layer to mean and
    log-variance of each number of the code, log-variances squashed into (-10, 10). Each step draws
    a new batch of codes and their images and raises `code_log_likelihood`: Adam, one-cycle rate
    with peak 2e-3. It is then taken over codes that are drawn after the training. Images larger
    than 64 pixels are averaged down to 64. The bound gets tighter with more steps, so compare
    numbers of the same protocol alone. The codes' entropy is left out, as ID-GAN does.

    The seed decides the initial weights; `draw` decides what is drawn. PyTorch's global random
    state is neither read nor changed by this function.

    Args:
        draw: Takes a count, returns newly drawn codes (N, D) and their images (N, C, H, W).
        value_range: Of the images.
        steps: Updates of the encoder, 1 or more.
        batch: Pairs of an update, 2 or more.
        held_out: Pairs that are scored, 1 or more.
        seed: Of the initial weights.

    Returns:
        A dict as of `code_log_likelihood`, with the protocol.

    Raises:
        ValueError: If a number is too small, or what is drawn does not fit or is not finite.

    Reference:
        Alemi and Fischer, GILBO: one metric to measure them all, 2018, equation 3.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> def draw(count):
        ...     codes = torch.randn(count, 1, generator=generator)
        ...     return codes, codes.sigmoid()[:, :, None, None].expand(-1, 1, 8, 8)
        >>> gilbo(draw, steps=100, held_out=100)["log_likelihood"] > 0  # −1.42 knowing nothing
        True
    """
    if steps < 1 or held_out < 1 or batch < 2:
        raise ValueError(
            "steps and held_out must be 1 or more and batch 2 or more, "
            f"got {steps}, {held_out} and {batch}"
        )
    codes, images = _pairs(draw, batch)
    shape = [images.shape[1], *(min(side, _LARGEST_SIDE) for side in images.shape[2:])]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        trunk = strided_trunk(shape, value_range, _WIDTH)
        head = nn.Linear(_WIDTH, 2 * codes.shape[1])
    nn.init.zeros_(head.weight)  # begins with N(0, 1), whatever the image
    nn.init.zeros_(head.bias)
    encoder = nn.Sequential(trunk, head).to(images.device)
    optimizer = torch.optim.Adam(encoder.parameters(), _PEAK_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _PEAK_RATE, total_steps=steps)
    for step in range(steps):
        if step:
            codes, images = _pairs(draw, batch)
        mean, logvar = _read(encoder, images)
        loss = 0.5 * (logvar + (codes - mean).square() * (-logvar).exp()).sum(dim=1).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        forget_batch_statistics(encoder)
        for _ in range(_SETTLING):
            _read(encoder, _pairs(draw, batch)[1])
        encoder.eval()
        sizes = [min(_CHUNK, held_out - first) for first in range(0, held_out, _CHUNK)]
        parts = [(c, *_read(encoder, x)) for c, x in (_pairs(draw, size) for size in sizes)]
    scored = code_log_likelihood(*(torch.cat(column) for column in zip(*parts, strict=True)))
    return {**scored, "steps": steps, "batch": batch, "seed": seed}


def _pairs(draw: Callable[[int], tuple[Tensor, Tensor]], count: int) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        codes, images = draw(count)
    check_codes("codes", codes)
    check_images(images)
    if len(codes) != len(images):
        raise ValueError(f"draw returned {len(codes)} codes and {len(images)} images")
    return codes.detach().float(), images.detach().float()


def _read(encoder: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance of the codes."""
    if max(images.shape[2:]) > _LARGEST_SIDE:
        height, width = (min(side, _LARGEST_SIDE) for side in images.shape[2:])
        images = F.adaptive_avg_pool2d(images, (height, width))
    mean, logvar = encoder(images).chunk(2, dim=1)
    return mean, _WIDEST * torch.tanh(logvar / _WIDEST)
