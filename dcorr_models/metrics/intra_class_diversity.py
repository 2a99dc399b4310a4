"""How different the images of one class are from each other, by MS-SSIM: Lr-LiVAE's d_intra."""

from __future__ import annotations

from typing import TypedDict

import torch
from torch import Tensor

from dcorr_models.metrics.convnet import check_images
from dcorr_models.metrics.image_quality import ms_ssim, ms_ssim_weights

__all__ = ["IntraClassDiversity", "intra_class_diversity"]

_PAIRS = 1024  # at a time: memory depends on it, results do not


class IntraClassDiversity(TypedDict):
    """What `intra_class_diversity` returns."""

    mean: float
    mean_with_self_pairs: float
    per_class: list[float]
    classes: list[int]
    images_a_class: int
    pairs: int
    ms_ssim_scales: int
    ms_ssim_weights: list[float]


@torch.no_grad()
def intra_class_diversity(
    images: Tensor,
    labels: Tensor,
    *,
    value_range: tuple[float, float] = (0.0, 1.0),
    max_images: int | None = None,
) -> IntraClassDiversity:
    r"""One minus the mean MS-SSIM of pairs of images of a class, averaged over the classes.

    For a class with the images $x_1, \dots, x_n$,
    $d = 1 - \frac{1}{n (n - 1)} \sum_{i \neq j} \mathrm{MS\text{-}SSIM}(x_i, x_j)$.
    Lr-LiVAE prints the mean over all $n^2$ ordered pairs, those of an image with itself among them,
    whose MS-SSIM is 1; that is $\frac{n - 1}{n} d$, and depends on n. Both are returned. It does
    not say how classes are put together; here each weighs the same.

    Images are clamped to `value_range`, as a picture file would, and mapped to [0, 1]. MS-SSIM is
    symmetric, so that each pair is computed once. Its scales follow from the image size (see
    `image_quality.ms_ssim_weights`), and values of different scales do not compare. Nothing says
    that the images belong to their class: noise is diverse too.

    Args:
        images: Float (N, C, H, W), sides of at least 11 pixels.
        labels: int64 (N,), the class of each. Every class needs two images.
        value_range: Lowest and highest value that an image can have.
        max_images: How many images of each class are taken, from the first on; all by default. The
            work grows with the square. Every class counts as many as the smallest has, so that
            the mean with self-pairs has one n.

    Returns:
        A dict of `mean` over the classes, `mean_with_self_pairs`, and `per_class` without
        self-pairs in the order of `classes`: 0 for images that are all alike, at most 1. Beside
        them n (`images_a_class`), the number of unordered pairs, and scales and weights of MS-SSIM.

    Raises:
        ValueError: If shapes do not fit, an image holds NaN or infinity or is too small, or a class
            has one image.
        TypeError: If `images` are not floating point or `labels` not int64.

    Reference:
        Zheng and Sun (Lr-LiVAE), 2019, equation 12.

    Example:
        >>> images = torch.rand(1, 1, 28, 28).expand(6, 1, 28, 28)
        >>> result = intra_class_diversity(images, torch.tensor([0, 0, 0, 1, 1, 1]))
        >>> round(abs(result["mean"]), 4), result["images_a_class"], result["pairs"]
        (0.0, 3, 6)
    """
    check_images(images)
    if labels.dtype != torch.int64:
        raise TypeError(f"labels must be int64, got {labels.dtype}")
    if labels.shape != images.shape[:1]:
        raise ValueError(f"labels must have shape ({len(images)},), got {tuple(labels.shape)}")
    low, high = value_range
    if not low < high:
        raise ValueError(f"value_range needs low < high, got {value_range}")
    weights = ms_ssim_weights(min(images.shape[-2:]))
    classes, counts = torch.unique(labels, return_counts=True)
    count = min([int(counts.min()), *([max_images] if max_images is not None else [])])
    if count < 2:
        few = f"class {int(classes[counts.argmin()])} has {int(counts.min())}"
        what = f"max_images is {max_images}" if max_images is not None and max_images < 2 else few
        raise ValueError(f"every class needs at least two images to compare, {what}")
    found = []
    for label in classes.tolist():
        rows = (labels == label).nonzero()[:count, 0]
        own = (images[rows].float().clamp(low, high) - low) / (high - low)
        found.append(_mean_dissimilarity(own))
    mean = sum(found) / len(found)
    return {
        "mean": mean,
        "mean_with_self_pairs": mean * (count - 1) / count,
        "per_class": found,
        "classes": classes.tolist(),
        "images_a_class": count,
        "pairs": len(classes) * count * (count - 1) // 2,
        "ms_ssim_scales": len(weights),
        "ms_ssim_weights": [round(weight, 6) for weight in weights],
    }


def _mean_dissimilarity(images: Tensor) -> float:
    """Over the unordered pairs of different images."""
    pairs = torch.combinations(torch.arange(len(images), device=images.device))
    parts = [
        ms_ssim(images[part[:, 0]], images[part[:, 1]]).double().sum()
        for part in torch.split(pairs, _PAIRS)
    ]
    return 1.0 - float(torch.stack(parts).sum()) / len(pairs)
