"""Does an edit change the attribute asked for, and no other? An independent classifier answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcorr_models.data.base import LabelledImages
from dcorr_models.metrics.attribute_labels import (
    balanced_accuracy,
    check_attribute_labels,
    check_columns,
)
from dcorr_models.metrics.convnet import (
    Rescale,
    check_images,
    check_training,
    conv_block,
    fit_convnet,
    in_chunks,
)

__all__ = [
    "AttributeClassifier",
    "EditEffects",
    "edit_effects",
    "predict_attributes",
    "train_attribute_classifier",
]

_CHUNK = 500  # images edited at a time


@dataclass(frozen=True)
class AttributeClassifier:
    """A trained classifier of attributes with what is known about it.

    Attributes:
        network: Takes images in `value_range`, returns a logit an attribute; in evaluation mode.
        value_range: Lowest and highest value of the images that it was trained on.
        train_images: Number of images that it was trained on.
        accuracy: For each attribute, the share of the held-out images that it is right on;
            empty if it was trained without any.
        balanced_accuracy: The mean of the accuracies with and without the attribute; None for an
            attribute that all held-out images have, or none.
        held_out_images: Number of held-out images.
        seed: Seed of its initial weights, draw and order of images, and shifts.
    """

    network: nn.Module
    value_range: tuple[float, float]
    train_images: int
    accuracy: list[float]
    balanced_accuracy: list[float | None]
    held_out_images: int
    seed: int


class EditEffects(TypedDict):
    """What `edit_effects` measures; serialises to JSON as it is."""

    names: list[str]
    matrix: list[list[float]]
    mean_diagonal: float
    mean_off_diagonal: float | None
    reached: list[float]
    mean_reached: float
    reconstruction_agreement: list[float]
    classifier_accuracy: list[float]
    classifier_balanced_accuracy: list[float | None]
    images: int
    classifier_images: int
    seed: int


def train_attribute_classifier(
    train: LabelledImages,
    *,
    held_out: LabelledImages | None = None,
    epochs: int = 8,
    max_images: int | None = None,
    seed: int = 0,
) -> AttributeClassifier:
    """Train a small ConvNet on real images, independent of any model that it is to judge.

    Protocol. Four convolutions 3x3 of 16, 32, 64 and 64 channels, each with batch norm and ReLU.
    Where the smaller side has 48 pixels or more, the first three move by two pixels; otherwise by
    one, with 2x2 max pooling after the second and third. Average pooling to 4x4, one linear layer
    with an output for each attribute. Images are mapped to [0, 1]. Binary cross-entropy;
    everything else as in `recognition.train_classifier`. An attribute is present where its
    probability exceeds one half.

    The seed alone decides the result, on the CPU with a given number of threads. PyTorch's
    global random state is neither read nor changed.

    Args:
        train: At least two images with attributes, float32 (N, A), sides of at least 8 pixels.
        held_out: Images that the accuracies are measured on.
        epochs: Passes over the training images.
        max_images: Learn from at most so many of the training images, drawn at random.
        seed: Seed of the initial weights, the draw and order of the images, and the shifts.

    Returns:
        The classifier, on the device of the images.

    Raises:
        ValueError: If there are fewer than two images, `epochs` is below 1, labels are neither 0
            nor 1, or the held-out images have another size, value range or number of attributes.
        TypeError: If the labels are not attributes but classes.

    Example:
        >>> labels = (torch.arange(40) % 2).float()[:, None]
        >>> images = (labels * 255).to(torch.uint8).reshape(40, 1, 1, 1).expand(40, 1, 8, 8)
        >>> data = LabelledImages(images, labels)
        >>> classifier = train_attribute_classifier(data, held_out=data, epochs=8)
        >>> classifier.accuracy, predict_attributes(classifier, torch.ones(1, 1, 8, 8)).tolist()
        ([1.0], [[True]])
    """
    check_training(train, held_out, epochs, torch.float32)
    check_attribute_labels("train", train.labels)
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(train), generator=generator)[:max_images].sort().values
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _make_network(train).to(train.images.device, torch.float32)
    # on a CPU a step at 64 pixels takes 40% less time so
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its stubs
    loss = F.binary_cross_entropy_with_logits
    fit_convnet(network, train, loss, epochs=epochs, seed=seed, rows=rows)
    classifier = AttributeClassifier(network, train.value_range, len(rows), [], [], 0, seed)
    if held_out is None:
        return classifier
    check_attribute_labels("held_out", held_out.labels)
    if held_out.labels.shape[1] != train.labels.shape[1]:
        raise ValueError(
            "train and held_out need the same attributes, "
            f"got {train.labels.shape[1]} and {held_out.labels.shape[1]}"
        )
    parts = torch.split(torch.arange(len(held_out)), _CHUNK)
    images = (held_out.__getitems__(part.tolist())["image"] for part in parts)
    predicted = torch.cat([predict_attributes(classifier, part) for part in images])
    actual = held_out.labels.cpu().bool()
    return replace(
        classifier,
        accuracy=(predicted == actual).double().mean(dim=0).tolist(),
        balanced_accuracy=balanced_accuracy(predicted, actual),
        held_out_images=len(held_out),
    )


@torch.no_grad()
def predict_attributes(classifier: AttributeClassifier, images: Tensor) -> Tensor:
    """Which attributes the classifier sees in images, clamped to its value range first.

    Args:
        classifier: From `train_attribute_classifier`.
        images: Float tensor (N, C, H, W), N > 0.

    Returns:
        Boolean (N, A) on the CPU.

    Raises:
        ValueError: If images are not (N, C, H, W), or one holds NaN or infinity.
        TypeError: If images are not floating point.
    """
    check_images(images)
    scores = in_chunks(classifier.network, images, classifier.value_range)
    return torch.cat([(part > 0).cpu() for part in scores])


@torch.no_grad()
def edit_effects(
    classifier: AttributeClassifier,
    labels: Tensor,
    reconstruct: Callable[[Tensor], Tensor],
    flip: Callable[[Tensor, int], Tensor],
    *,
    names: Sequence[str],
    attributes: Sequence[int] | None = None,
) -> EditEffects:
    """What an edit of each attribute changes in all of them, as the classifier sees it.

    Every image is edited, one attribute at a time, to the opposite of what its label says. The
    baseline is the image's reconstruction without an edit, so that what reconstruction loses is not
    held against the edit. `matrix[a][b]` is the share of the images in which the edit of attribute
    a changed the prediction of attribute b. A perfect editor has the identity, one that does
    nothing zeros; off the diagonal stand the other attributes that an edit disturbs.

    Args:
        classifier: From `train_attribute_classifier`.
        labels: Float tensor (N, A) of 0 and 1, the real attributes of the images.
        reconstruct: Called with rows (int64, at most 500 at a time); returns their images
            without an edit, in the classifier's value range.
        flip: Called with rows and the column of an attribute; returns their images edited to
            the opposite of their labels there.
        names: A name for each of the A attributes.
        attributes: Columns to edit and to look at; all by default.

    Returns:
        A dict: `names` and the square `matrix` in their order; `mean_diagonal` (targets changed,
        higher is better) and `mean_off_diagonal` (others disturbed, lower is better; None for a
        single attribute); `reached`, for each attribute the share of its edited images in which
        the classifier sees what was asked for, and its mean; `reconstruction_agreement`, the
        share of reconstructions in which it sees what the label says; its accuracies on real
        images.

    Raises:
        ValueError: If shapes do not fit or an edited image holds NaN or infinity.
        TypeError: If labels or images are not floating point.

    Example:
        See `train_attribute_classifier`.
    """
    check_attribute_labels("labels", labels)
    columns = list(range(len(names))) if attributes is None else list(attributes)
    check_columns(names, columns, labels.shape[1])
    count = len(columns)
    changed = torch.zeros(count, count, dtype=torch.float64)
    reached = torch.zeros(count, dtype=torch.float64)
    agreed = torch.zeros(count, dtype=torch.float64)
    for rows in torch.split(torch.arange(len(labels)), _CHUNK):
        actual = labels[rows][:, columns].cpu().bool()  # (B, A)
        before = predict_attributes(classifier, reconstruct(rows))[:, columns]
        agreed += (before == actual).sum(dim=0)
        for place, column in enumerate(columns):
            after = predict_attributes(classifier, flip(rows, column))[:, columns]
            changed[place] += (after != before).sum(dim=0)
            reached[place] += (after[:, place] != actual[:, place]).sum()
    matrix = changed / len(labels)
    others = matrix.sum() - matrix.trace()
    balanced = classifier.balanced_accuracy
    return {
        "names": [names[column] for column in columns],
        "matrix": matrix.tolist(),
        "mean_diagonal": matrix.diagonal().mean().item(),
        "mean_off_diagonal": others.item() / (count * (count - 1)) if count > 1 else None,
        "reached": (reached / len(labels)).tolist(),
        "mean_reached": reached.mean().item() / len(labels),
        "reconstruction_agreement": (agreed / len(labels)).tolist(),
        "classifier_accuracy": [classifier.accuracy[c] for c in columns if classifier.accuracy],
        "classifier_balanced_accuracy": [balanced[c] for c in columns if balanced],
        "images": len(labels),
        "classifier_images": classifier.train_images,
        "seed": classifier.seed,
    }


def _make_network(train: LabelledImages) -> nn.Module:
    channels, height, width = train.images.shape[1:]
    large = min(height, width) >= 48
    halve = 2 if large else 1

    def pool() -> list[nn.Module]:
        return [] if large else [nn.MaxPool2d(2)]

    return nn.Sequential(
        Rescale(train.value_range),
        *conv_block(channels, 16, stride=halve),
        *conv_block(16, 32, stride=halve),
        *pool(),
        *conv_block(32, 64, stride=halve),
        *pool(),
        *conv_block(64, 64),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(64 * 16, train.labels.shape[1]),
    )
