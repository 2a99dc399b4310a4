"""Codes of whole splits and images of codes, on the CPU, in batches."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dcorr_models import editing
from dcorr_models.data.base import LabelledImages, Splits
from dcorr_models.editing.passes import to_networks_of
from dcorr_models.errors import UserError
from dcorr_models.methods.base import Codes, Method
from dcorr_models.metrics import image_quality

__all__ = ["decode", "encode", "encode_split", "some_rows", "start"]

_BATCH = 500


def encode_split(
    method: Method, split: LabelledImages, *, batch_size: int = _BATCH
) -> tuple[Codes, Tensor, Tensor]:
    """Codes, images and labels of a whole split on the CPU, in its order."""
    images, labels = split.tensors()
    with editing.inference(method):
        batches = torch.split(images, batch_size)
        parts = [method.encode(to_networks_of(method, part)) for part in batches]
    return _joined(parts), images, labels


def encode(
    method: Method, split: LabelledImages, rows: Tensor, *, batch_size: int = _BATCH
) -> Codes:
    """Codes of some of the images on the CPU; never more than a batch of images at a time."""
    with editing.inference(method):
        batches = (split.__getitems__(part.tolist()) for part in torch.split(rows, batch_size))
        parts = [method.encode(to_networks_of(method, batch["image"])) for batch in batches]
    return _joined(parts)


def some_rows(split: LabelledImages, count: int | None, *, seed: int) -> Tensor:
    """At most `count` rows of a split, drawn at random, in their order; all by default."""
    if count is None or count >= len(split):
        return torch.arange(len(split))
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    return order[:count].sort().values


def decode(method: Method, codes: Codes, *, batch_size: int = _BATCH) -> Tensor:
    """The codes' images on the CPU.

    Raises:
        UserError: they hold NaN or infinity.
    """
    device = next(method.parameters()).device
    parts = zip(*(torch.split(code, batch_size) for code in codes), strict=True)
    with editing.inference(method):
        images = [method.decode(Codes(y.to(device), z.to(device))).cpu() for y, z in parts]
    if not all(bool(part.isfinite().all()) for part in images):
        raise UserError(
            f"images of this {type(method).__name__} hold NaN or infinity: its weights are broken, "
            "or an intensity is too large"
        )
    return torch.cat(images)


def start(kind: str, method: Method, splits: Splits) -> tuple[dict[str, Any], Codes, Tensor]:
    """What every evaluation begins with: reconstructions, and the test split's codes and labels."""
    codes, images, labels = encode_split(method, splits.test)
    quality = image_quality.image_quality(
        images, decode(method, codes), value_range=splits.test.value_range
    )
    result = {
        "format": 1,
        "kind": kind,
        "split": "test",
        "num_images": len(images),
        "reconstruction": quality,
    }
    return result, codes, labels


def _joined(parts: list[Codes]) -> Codes:
    return Codes(*(torch.cat([c.cpu() for c in column]) for column in zip(*parts, strict=True)))
