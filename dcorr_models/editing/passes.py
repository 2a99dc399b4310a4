"""Passes through a method: in eval mode, without gradients, a part of the images at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dcorr_models.errors import UserError
from dcorr_models.methods.base import Codes, Method

__all__ = ["BATCH", "Write", "check_images", "edits", "inference", "reconstruct", "to_networks_of"]

BATCH = 256
"""Images that go through a network at once: memory depends on it, results do not."""

Write = Callable[[Tensor, slice], Tensor]
"""New label codes (n, K) from those of the images in a slice."""


@contextmanager
def inference(method: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; every module's own training flag comes back.

    Example:
        >>> net = nn.Sequential(nn.Dropout().eval(), nn.Linear(1, 1))
        >>> with inference(net):
        ...     net.training, torch.is_grad_enabled()
        (False, False)
        >>> net.training, net[0].training
        (True, False)
    """
    flags = [(module, module.training) for module in method.modules()]
    method.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, flag in flags:
            module.training = flag


def reconstruct(method: Method, images: Tensor) -> Tensor:
    """Each image through both codes and back.

    Args:
        method: a trained method; it works in eval mode without gradients, and its training flags
            stay as they were.
        images: (N, C, H, W) of the method's image shape, in its value range.

    Returns:
        (N, C, H, W) on the images' device.

    Raises:
        UserError: images of another shape.
    """
    check_images(method, images)
    return edits(method, images, [lambda label, rows: label])[:, 0]


def edits(method: Method, images: Tensor, writes: Sequence[Write]) -> Tensor:
    """Each image encoded once, its label code written in each of several ways, and decoded.

    Args:
        method: see `reconstruct`.
        images: (N, C, H, W), checked by the caller.
        writes: T functions of label codes and of the rows of `images` that they belong to.

    Returns:
        (N, T, C, H, W) on the images' device.
    """
    count, first = len(writes), 0
    result: Tensor | None = None
    with inference(method):
        for start in range(0, max(len(images), 1), BATCH):
            rows = slice(start, min(start + BATCH, len(images)))
            label, residual = method.encode(to_networks_of(method, images[rows]))
            labels = torch.stack([write(label, rows) for write in writes], dim=1).flatten(0, 1)
            codes = (labels, residual.repeat_interleave(count, dim=0))
            for part in zip(*(torch.split(code, BATCH) for code in codes), strict=True):
                decoded = method.decode(Codes(*part)).to(images.device)
                if result is None:  # made once: joining parts at the end would hold all twice
                    result = decoded.new_empty(len(images) * count, *decoded.shape[1:])
                result[first : first + len(decoded)] = decoded
                first += len(decoded)
    assert result is not None  # an empty batch goes through the networks too
    return result.reshape(len(images), count, *result.shape[1:])


def check_images(method: Method, images: Tensor) -> None:
    """Refuses what the method's networks cannot take."""
    if images.ndim != 4 or tuple(images.shape[1:]) != tuple(method.image_shape):
        wanted = ", ".join(map(str, method.image_shape))
        raise UserError(f"images must have shape (N, {wanted}), got {tuple(images.shape)}")
    if not images.is_floating_point():
        raise UserError(f"images must be floating point, got {images.dtype}")


def to_networks_of(method: nn.Module, images: Tensor) -> Tensor:
    """Images on the device of the method's networks, and in their precision.

    Example:
        >>> to_networks_of(nn.Linear(1, 1), torch.zeros(1, dtype=torch.float64)).dtype
        torch.float32
    """
    first = next((p for p in method.parameters() if p.is_floating_point()), None)
    return images if first is None else images.to(first.device, first.dtype)
