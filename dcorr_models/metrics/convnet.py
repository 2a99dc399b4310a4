"""A small ConvNet trained on real images: what the classifiers of the metrics have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcorr_models.data.base import LabelledImages, require_labels

__all__ = [
    "Rescale",
    "check_images",
    "check_training",
    "conv_block",
    "fit_convnet",
    "forget_batch_statistics",
    "in_chunks",
    "strided_trunk",
]

_BATCH = 100
_PEAK_RATE = 3e-3
_WEIGHT_DECAY = 1e-2
_SHIFT = 2
_CHUNK = 1000
_TRUNK_CHANNELS = (16, 32, 32, 64)


class Rescale(nn.Module):
    """Maps images from their value range to [0, 1]."""

    def __init__(self, value_range: tuple[float, float]) -> None:
        super().__init__()
        self.low, self.high = value_range

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) with black at 0 and white at 1."""
        return (images - self.low) / (self.high - self.low)


def conv_block(channels_in: int, channels_out: int, *, stride: int = 1) -> list[nn.Module]:
    """A 3x3 convolution with batch norm and ReLU."""
    convolution = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(channels_out), nn.ReLU()]


def strided_trunk(shape: Sequence[int], value_range: tuple[float, float], width: int) -> nn.Module:
    """Images to `width` features: 3x3 convolutions of stride 2 down to 4 pixels, one layer.

    Of 16, 32, 32 and 64 channels, then 64 again, each with batch norm and ReLU, as many as the
    image needs; a fully connected layer with ReLU. It knows where in the image a thing is.

    Args:
        shape: Channels, height and width.
        value_range: Of the images; they are mapped to [0, 1].
        width: Features.
    """
    channels, *sides = shape
    layers: list[nn.Module] = [Rescale(value_range)]
    depth = 0
    while max(sides) > 4:
        wide = _TRUNK_CHANNELS[min(depth, len(_TRUNK_CHANNELS) - 1)]
        layers += conv_block(channels, wide, stride=2)
        channels, depth, sides = wide, depth + 1, [(side + 1) // 2 for side in sides]
    flat = channels * sides[0] * sides[1]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, width), nn.ReLU())


@torch.enable_grad()
def fit_convnet(
    network: nn.Module,
    train: LabelledImages,
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    epochs: int,
    seed: int,
    rows: Tensor | None = None,
    targets: Tensor | None = None,
    shift: bool = True,
) -> None:
    """Train a network in place; it ends in evaluation mode with its parameters fixed.

    AdamW (weight decay 0.01), batches of about 100, one-cycle rate with peak 3e-3; each batch is
    shifted by up to 2 pixels each way, one shift a batch. At the end the batch norms' statistics
    are taken over all training images. The seed alone decides the order and the shifts; PyTorch's
    global random state is neither read nor changed by networks without dropout.

    Args:
        network: Takes images, returns scores (N, K).
        train: Images and labels.
        loss: Of scores and labels.
        epochs: Passes over the images.
        seed: Seed of the order of the images and of the shifts.
        rows: int64 (M,), the images to learn from; all by default.
        targets: What `loss` is given in place of the labels, a row an image of `train`.
        shift: False leaves images where they are, for what depends on places.
    """
    rows = torch.arange(len(train)) if rows is None else rows
    generator = torch.Generator().manual_seed(seed)
    # batches of nearly equal size: a last batch of one image would break the batch norm
    batches = max(1, len(rows) // _BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), _PEAK_RATE, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, _PEAK_RATE, total_steps=epochs * batches
    )
    network.train()
    for _ in range(epochs):
        order = rows[torch.randperm(len(rows), generator=generator)]
        for indices in torch.tensor_split(order, batches):
            batch = train.__getitems__(indices.tolist())
            images, wanted = batch["image"], batch["label"] if targets is None else targets[indices]
            if shift:
                dx, dy = torch.randint(2 * _SHIFT + 1, (2,), generator=generator).tolist()
                images = _shift(images, dx, dy, fill=train.value_range[0])
            optimizer.zero_grad()
            torch.autograd.backward(loss(network(images), wanted))
            optimizer.step()
            schedule.step()
    _settle_batch_norms(network, train, rows)
    network.eval().requires_grad_(False)


def forget_batch_statistics(network: nn.Module) -> None:
    """Batch norms begin anew; from now on each batch has equal weight."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None


@torch.no_grad()
def in_chunks(
    network: nn.Module, images: Tensor, value_range: tuple[float, float]
) -> Iterator[Tensor]:
    """Scores of the images, clamped to the value range as a picture file would, part by part."""
    device = next(network.parameters()).device
    for part in torch.split(images, _CHUNK):
        yield network(part.to(device, torch.float32).clamp(*value_range))


@torch.no_grad()
def _settle_batch_norms(network: nn.Module, train: LabelledImages, rows: Tensor) -> None:
    """Take the statistics for evaluation over all training images with the final weights.

    The running averages remember weights of the last tens of steps, which after a short training
    are far from the final ones: 40 steps on 1,000 digits reach 76% with them, 88% without.
    """
    forget_batch_statistics(network)
    for indices in torch.tensor_split(rows, max(1, len(rows) // _CHUNK)):
        network(train.__getitems__(indices.tolist())["image"])


def _shift(images: Tensor, dx: int, dy: int, fill: float) -> Tensor:
    """Crop at (dx, dy), each from 0 to 2 * _SHIFT, out of the images with a margin of _SHIFT."""
    height, width = images.shape[-2:]
    padded = F.pad(images, (_SHIFT,) * 4, value=fill)
    return padded[..., dy : dy + height, dx : dx + width]


def check_training(
    train: LabelledImages, held_out: LabelledImages | None, epochs: int, labels: torch.dtype
) -> None:
    """The arguments of a training: labels of one kind, images that fit each other."""
    wanted = {torch.int64: "one class an image as int64", torch.float32: "attributes as float32"}
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}")
    if len(train) < 2:
        raise ValueError(f"train needs at least two images, got {len(train)}")
    for name, data in (("train", train), ("held_out", held_out)):
        if data is not None and data.labels.dtype != labels:
            raise TypeError(f"{name} needs {wanted[labels]}, got {data.labels.dtype}")
        if data is not None:
            require_labels(name, data.labels)
    if held_out is None:
        return
    if held_out.images.shape[1:] != train.images.shape[1:]:
        raise ValueError(
            "train and held_out need images of the same size, "
            f"got {tuple(train.images.shape[1:])} and {tuple(held_out.images.shape[1:])}"
        )
    if held_out.value_range != train.value_range:
        raise ValueError(
            "train and held_out need the same value range, "
            f"got {train.value_range} and {held_out.value_range}"
        )


def check_images(images: Tensor) -> None:
    """Finite float images (N, C, H, W), N > 0."""
    if not images.is_floating_point():
        raise TypeError(f"images must be floating point, got {images.dtype}")
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(
            f"images must have shape (N, C, H, W) with N > 0, got {tuple(images.shape)}"
        )
    if not images.isfinite().all():
        raise ValueError("images must be finite, got NaN or infinity")
