"""Does an edit show the attribute? Linear SVMs on pixels answer, as CDNet's Fig. 7 has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NotRequired, TypedDict

import numpy as np
import torch
from torch import Tensor

from dcorr_models.data.base import LabelledImages
from dcorr_models.metrics.attribute_labels import (
    balanced_accuracy,
    check_attribute_labels,
    check_columns,
    single_class,
)
from dcorr_models.metrics.convnet import check_images
from dcorr_models.metrics.linear_svm import (
    LinearSvms,
    Sampling,
    pixels_of,
    train_svms,
    unit_pixels,
)

__all__ = ["AttributeCurve", "Edit", "SvmEditing", "svm_editing"]

Edit = Callable[[Tensor, int, float], Tensor]
"""(rows of the test split, column of the attribute, intensity) to their edited images."""

_CHUNK = 500  # images at a time


class AttributeCurve(TypedDict):
    """One attribute: the error at each intensity, and how far the SVMs can be trusted."""

    error: list[float]
    std: list[float]
    unedited: NotRequired[float]
    accuracy: float
    balanced_accuracy: float | None
    images: int
    train_images: int


class SvmEditing(TypedDict):
    """What `svm_editing` measures; serialises to JSON as it is."""

    intensities: list[float]
    attributes: dict[str, AttributeCurve]
    mean_errors: list[float]
    mean_error: float
    mean_accuracy: float
    repeats: int
    penalty: float
    standardised: bool
    balanced: bool
    max_per_side: int | None
    seed: int


@torch.no_grad()
def svm_editing(
    train: LabelledImages,
    test: LabelledImages,
    edit: Edit,
    *,
    names: Sequence[str],
    attributes: Sequence[int] | None = None,
    intensities: Sequence[float] = tuple(np.linspace(0.3, 3.0, 10).round(6).tolist()),
    reconstruct: Callable[[Tensor], Tensor] | None = None,
    max_test_images: int | None = None,
    repeats: int = 5,
    max_per_side: int | None = 1_000,
    penalty: float = 1.0,
    standardise: bool = True,
    balanced: bool = True,
    seed: int = 0,
) -> SvmEditing:
    """The share of edited images in which linear SVMs miss the attribute, by intensity.

    Protocol, for each attribute: (1) split the training images into those with and without it;
    (2) train a two-class linear SVM on the two; (3) edit all test images without it to each
    intensity; (4) the error is the share of them that the SVM still takes for "without". Five
    trainings, on different images, are averaged.

    What the papers leave open is fixed here. The features are all pixels, mapped to [0, 1];
    edited images are clamped to the value range first, as a picture file would. Each pixel is
    standardised by its mean and standard deviation over all training images (a constant one becomes
    0). Each SVM learns from as many images with the attribute as without, at most `max_per_side`
    of each, drawn anew for each training. It minimises `½‖w‖² + C Σ max(0, 1 - y(w·x + b))` with
    C = 1 and b free. Its solution is a combination of its training images, so that it is found, by
    libsvm, from their products with each other alone; nothing is approximated.

    Args:
        train: Real images with attributes, float32 (N, A), which the SVMs learn from.
        test: Images with attributes, of which those without the attribute are edited.
        edit: Called with rows of `test` (int64), the attribute's column and an intensity; returns
            their edited images in the value range of `test`.
        names: A name for each of the A attributes.
        attributes: Columns to measure; all by default.
        intensities: From the lowest to the highest.
        reconstruct: The same rows' images without an edit; their error is the result's
            `unedited`, the error of edits that change nothing.
        max_test_images: Edit the first so many of the images without the attribute only.
        repeats: SVMs an attribute.
        max_per_side: Images with the attribute, and without, that an SVM learns from at most; None
            for as many as there are of the rarer kind.
        penalty: C.
        standardise: False leaves the pixels in [0, 1].
        balanced: False learns from images as they come, 2 `max_per_side` of them.
        seed: Of the choice of the training images, which is all that is random.

    Returns:
        A dict: `intensities`; for each name under `attributes` the `error` at each intensity, mean
        over the SVMs, and its standard deviation over the SVMs (divided by their number), shares
        from 0 to 1; the SVMs' own `accuracy` and `balanced_accuracy` on all real test images (the
        latter None where none of them has the attribute), the number of edited `images` and of
        `train_images`. Beside them the means over the attributes, `mean_errors` at each intensity
        and `mean_error` at the highest, `mean_accuracy`, and the settings.

    Raises:
        ValueError: If an attribute has a single class among the training images, or no test image
            is without it, by its name; if shapes do not fit, intensities do not rise, or an
            edited image holds NaN or infinity.
        TypeError: If the labels are not attributes.

    Reference:
        Song et al. 2020 (CDNet), section IV-E, Fig. 7. The same in mddAE, section 4.4, Fig. 6.

    Example:
        >>> labels = (torch.arange(40) % 2).float()[:, None]
        >>> images = (labels * 255).to(torch.uint8).reshape(40, 1, 1, 1).expand(40, 1, 4, 4)
        >>> data = LabelledImages(images, labels)
        >>> paint = lambda rows, attribute, value: torch.full((len(rows), 1, 4, 4), value)
        >>> result = svm_editing(data, data, paint, names=["light"], intensities=[0.25, 1.0])
        >>> result["attributes"]["light"]["error"]
        [1.0, 0.0]
    """
    columns = list(range(len(names))) if attributes is None else list(attributes)
    _check(train, test, names, columns, intensities)
    sampling = Sampling(repeats, max_per_side, penalty, standardise, balanced, seed)
    all_svms = train_svms(train, columns, sampling, names=names)
    curves = {}
    for column, svms in zip(columns, all_svms, strict=True):
        rows = torch.nonzero(test.labels[:, column] == 0)[:max_test_images, 0]
        missed = torch.stack(
            [_error(svms, test, rows, _at(edit, column, float(v))) for v in intensities]
        )  # (T, R)
        seen = _seen(svms, test)
        actual = test.labels[:, column].bool()
        curve: AttributeCurve = {
            "error": missed.mean(dim=1).tolist(),
            "std": missed.std(dim=1, correction=0).tolist(),
            "accuracy": (seen == actual[:, None]).double().mean().item(),
            "balanced_accuracy": _mean_balanced(seen, actual),
            "images": len(rows),
            "train_images": svms.train_images,
        }
        if reconstruct is not None:
            curve["unedited"] = _error(svms, test, rows, reconstruct).mean().item()
        curves[names[column]] = curve
    errors = np.mean([curve["error"] for curve in curves.values()], axis=0)  # (T,)
    return {
        "intensities": [float(value) for value in intensities],
        "attributes": curves,
        "mean_errors": errors.tolist(),
        "mean_error": float(errors[-1]),
        "mean_accuracy": float(np.mean([curve["accuracy"] for curve in curves.values()])),
        "repeats": repeats,
        "penalty": penalty,
        "standardised": standardise,
        "balanced": balanced,
        "max_per_side": max_per_side,
        "seed": seed,
    }


def _error(
    svms: LinearSvms, test: LabelledImages, rows: Tensor, make: Callable[[Tensor], Tensor]
) -> Tensor:
    """(R,): the share of the made images in which an SVM does not see the attribute."""
    missed = torch.zeros(svms.weights.shape[1], dtype=torch.float64)
    for part in torch.split(rows, _CHUNK):
        images = make(part)
        check_images(images)
        if images.shape != (len(part), *test.images.shape[1:]):
            raise ValueError(
                f"edit must return images of shape {(len(part), *test.images.shape[1:])}, "
                f"got {tuple(images.shape)}"
            )
        missed += (~svms.see(unit_pixels(images, test.value_range))).sum(dim=0)
    return missed / len(rows)


def _seen(svms: LinearSvms, test: LabelledImages) -> Tensor:
    """Boolean (N, R) of all real test images."""
    parts = torch.split(torch.arange(len(test)), _CHUNK)
    return torch.cat([svms.see(pixels_of(test, part)) for part in parts])


def _mean_balanced(seen: Tensor, actual: Tensor) -> float | None:
    values = balanced_accuracy(seen, actual[:, None].expand_as(seen))
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _at(edit: Edit, column: int, intensity: float) -> Callable[[Tensor], Tensor]:
    return lambda rows: edit(rows, column, intensity)


def _check(
    train: LabelledImages,
    test: LabelledImages,
    names: Sequence[str],
    columns: Sequence[int],
    intensities: Sequence[float],
) -> None:
    check_attribute_labels("train", train.labels)
    check_attribute_labels("test", test.labels)
    if train.labels.shape[1] != test.labels.shape[1]:
        raise ValueError(
            "train and test need the same attributes, "
            f"got {train.labels.shape[1]} and {test.labels.shape[1]}"
        )
    if train.images.shape[1:] != test.images.shape[1:]:
        raise ValueError(
            "train and test need images of the same size, "
            f"got {tuple(train.images.shape[1:])} and {tuple(test.images.shape[1:])}"
        )
    check_columns(names, columns, train.labels.shape[1])
    values = torch.tensor([float(value) for value in intensities], dtype=torch.float64)
    if not len(values) or not values.isfinite().all() or (values.diff() <= 0).any():
        raise ValueError(f"intensities must rise from the first on, got {list(intensities)}")
    for column in columns:
        reason = single_class(train.labels[:, column], "training images")
        if reason is None and bool((test.labels[:, column] == 1).all()):
            reason = f"all of the {len(test)} test images have it, so there is none to edit"
        if reason:
            raise ValueError(f"attribute {names[column]!r}: {reason}")
