"""Content transfer: the class of one image and the content of another, against the true image."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

import torch
from torch import Tensor

from dcorr_models.data.base import LabelledImages
from dcorr_models.metrics.perceptual_distance import ImageDistance
from dcorr_models.metrics.transfer_triples import TransferTriples

__all__ = ["ContentTransfer", "Distances", "content_transfer", "content_transfer_on"]

_CHUNK = 64


class Distances(TypedDict):
    """Distances of images from the true ones; serialises to JSON as it is."""

    mean: float
    std: float
    standard_error: float


class ContentTransfer(TypedDict):
    """What `content_transfer_on` measures; serialises to JSON as it is."""

    distance: str
    transfer: Distances
    reconstruction: Distances
    class_image: Distances
    content_image: Distances
    pairs: int
    seed: int


@torch.no_grad()
def content_transfer(
    generated: Tensor,
    true: Tensor,
    distance: ImageDistance,
    *,
    value_range: tuple[float, float] = (0.0, 1.0),
) -> Distances:
    """Distances of generated images from the true ones, over the images.

    Args:
        generated: Float tensor (N, C, H, W); clamped to the value range, as a picture file would.
        true: Float tensor of the same shape.
        distance: what compares them; write its `name` beside the numbers.
        value_range: lowest and highest value of the images.

    Returns:
        Mean and standard deviation (divided by N) over the images, and the mean's standard error,
        the deviation (divided by N - 1) over √N; for a single image 0.

    Raises:
        ValueError: Shapes that differ, no images, or generated images that are NaN or infinite.

    Example:
        >>> from dcorr_models.metrics.perceptual_distance import PixelDistance
        >>> black, white = torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4)
        >>> content_transfer(white, black, PixelDistance("l1"))["mean"]
        1.0
    """
    return _summary(_distances(generated, true, distance, value_range))


@torch.no_grad()
def content_transfer_on(
    split: LabelledImages,
    triples: TransferTriples,
    transfer: Callable[[Tensor, Tensor], Tensor],
    distance: ImageDistance,
    *,
    seed: int = 0,
) -> ContentTransfer:
    """Content transfer on a split, with the numbers that tell whether it is low.

    Args:
        split: the images.
        triples: from `transfer_triples.triples_by_content` or `triples_by_targets`.
        transfer: called with the images that give the class and those that give the content,
            (M, C, H, W) each, at most 64 at a time; returns the images of both.
        distance: what compares images.
        seed: that of the triples, to be written beside the numbers.

    Returns:
        A dict: the `distance`'s name; `transfer`, lower is better; `reconstruction`, the same of
        the true image's own class and content; `class_image` and `content_image`, what a method
        would have that returns one of its two inputs as it is; the number of `pairs`.

    Raises:
        ValueError: `transfer` returns another shape, or NaN or infinity.

    Example:
        >>> from dcorr_models.metrics.perceptual_distance import PixelDistance
        >>> from dcorr_models.metrics.transfer_triples import triples_by_content
        >>> images = torch.tensor([0, 80, 100, 180], dtype=torch.uint8).reshape(4, 1, 1, 1)
        >>> labels, content = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
        >>> split = LabelledImages(images, labels, content=content)
        >>> triples = triples_by_content(split, pairs=10)
        >>> def perfect(a, b):  # class adds 100, content 80
        ...     label = (255 * a >= 99.5).float()
        ...     return (100 * label + (255 * b).round() % 100) / 255
        >>> result = content_transfer_on(split, triples, perfect, PixelDistance("l1"))
        >>> result["distance"], round(result["transfer"]["mean"], 6), result["pairs"]
        ('pixel L1', 0.0, 10)
    """
    values: dict[str, list[Tensor]] = {
        kind: [] for kind in ("transfer", "reconstruction", "class_image", "content_image")
    }
    for rows in torch.split(torch.arange(len(triples.target_rows)), _CHUNK):
        of_class, of_content, true = (
            split.__getitems__(column[rows].tolist())["image"] for column in triples
        )
        compared = {
            "transfer": transfer(of_class, of_content),
            "reconstruction": transfer(true, true),
            "class_image": of_class,
            "content_image": of_content,
        }
        for kind, images in compared.items():
            images = images.to(true.device, true.dtype)
            values[kind].append(_distances(images, true, distance, split.value_range).cpu())
    summaries = {kind: _summary(torch.cat(parts)) for kind, parts in values.items()}
    return {
        "distance": distance.name,
        "transfer": summaries["transfer"],
        "reconstruction": summaries["reconstruction"],
        "class_image": summaries["class_image"],
        "content_image": summaries["content_image"],
        "pairs": len(triples.target_rows),
        "seed": seed,
    }


def _distances(
    generated: Tensor, true: Tensor, distance: ImageDistance, value_range: tuple[float, float]
) -> Tensor:
    if generated.shape != true.shape or generated.ndim != 4 or len(generated) == 0:
        raise ValueError(
            "generated and true images need the same shape (N, C, H, W) with N > 0, got "
            f"{tuple(generated.shape)} and {tuple(true.shape)}"
        )
    if not generated.isfinite().all():
        raise ValueError("generated images must be finite, got NaN or infinity")
    return distance(generated.clamp(*value_range), true)


def _summary(values: Tensor) -> Distances:
    values, n = values.double(), len(values)
    error = values.std(correction=1).item() / n**0.5 if n > 1 else 0.0
    return {
        "mean": values.mean().item(),
        "std": values.std(correction=0).item(),
        "standard_error": error,
    }
