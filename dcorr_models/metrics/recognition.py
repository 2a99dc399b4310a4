"""Does an edited image show what was asked for? An independent classifier answers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcorr_models.data.base import LabelledImages
from dcorr_models.metrics.convnet import (
    Rescale,
    check_images,
    check_training,
    conv_block,
    fit_convnet,
    in_chunks,
)

__all__ = ["Classifier", "recognition_rate", "train_classifier"]


@dataclass(frozen=True)
class Classifier:
    """A trained classifier with what is known about it.

    Attributes:
        network: Takes images in `value_range`, returns class scores; in evaluation mode.
        value_range: Lowest and highest value of the images that it was trained on.
        train_images: Number of images that it was trained on.
        accuracy: Share of the held-out images that it classifies right, from 0 to 1; None if it
            was trained without any.
        held_out_images: Number of held-out images.
        seed: Seed of its initial weights, order of images and shifts.
    """

    network: nn.Module
    value_range: tuple[float, float]
    train_images: int
    accuracy: float | None
    held_out_images: int
    seed: int


def train_classifier(
    train: LabelledImages,
    *,
    held_out: LabelledImages | None = None,
    epochs: int = 8,
    seed: int = 0,
) -> Classifier:
    """Train a small ConvNet on real images, independent of any model that it is to judge.

    Protocol. Three convolutions 3x3 of 16, 32 and 64 channels, each with batch norm and ReLU,
    2x2 max pooling after the first two, average pooling to 3x3, one linear layer. Images are
    mapped to [0, 1]. Cross-entropy, AdamW (weight decay 0.01), batches of about 100, one-cycle
    rate with peak 3e-3; each batch is shifted by up to 2 pixels each way, one shift a batch. At the
    end the batch norms' statistics are taken over all training images. The held-out images are
    classified once, after that.

    The seed alone decides the result, on the CPU with a given number of threads. PyTorch's
    global random state is neither read nor changed.

    Args:
        train: At least two images with a class each, sides of at least 4 pixels.
        held_out: Images that `accuracy` is measured on.
        epochs: Passes over the training images.
        seed: Seed of the initial weights, the order of the images and the shifts.

    Returns:
        The classifier, on the device of the images.

    Raises:
        ValueError: If there are fewer than two images, `epochs` is below 1, or the held-out
            images have another size or value range.
        TypeError: If the labels are not classes but attributes.

    Example:
        >>> labels = torch.arange(40) % 2
        >>> images = (labels * 255).to(torch.uint8).reshape(40, 1, 1, 1).expand(40, 1, 8, 8)
        >>> data = LabelledImages(images, labels)
        >>> classifier = train_classifier(data, held_out=data, epochs=4)
        >>> classifier.accuracy, recognition_rate(classifier, torch.zeros(5, 1, 8, 8), labels[:5])
        (1.0, 0.6)
    """
    check_training(train, held_out, epochs, torch.int64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _make_network(train)
    # of an image as it is handed out: one that is drawn when it is asked for lies nowhere before
    network.to(train.__getitems__([0])["image"].device, torch.float32)
    fit_convnet(network, train, F.cross_entropy, epochs=epochs, seed=seed)
    classifier = Classifier(network, train.value_range, len(train), None, 0, seed)
    if held_out is None:
        return classifier
    accuracy = recognition_rate(classifier, *held_out.tensors())
    return replace(classifier, accuracy=accuracy, held_out_images=len(held_out))


@torch.no_grad()
def recognition_rate(classifier: Classifier, images: Tensor, targets: Tensor) -> float:
    """Share of the images that the classifier takes for what they should show.

    The images are clamped to the classifier's value range first, as a picture file would clamp
    them. Report `classifier.accuracy`, its rate on real held-out images, beside the result: no
    perfect edit can do better than about that.

    Args:
        classifier: From `train_classifier`.
        images: Float tensor (N, C, H, W), N > 0, such as edited images.
        targets: int64 (N,), the class that each image should show.

    Returns:
        From 0 to 1; chance is one over the number of classes if the targets are balanced.

    Raises:
        ValueError: If shapes do not fit each other, or an image holds NaN or infinity.
        TypeError: If `images` are not floating point or `targets` not int64.

    Example:
        See `train_classifier`.
    """
    _check_images(images, targets)
    right, first = 0, 0
    for scores in in_chunks(classifier.network, images, classifier.value_range):
        wanted = targets[first : first + len(scores)].to(scores.device)
        right, first = right + int((scores.argmax(dim=1) == wanted).sum()), first + len(scores)
    return right / len(images)


def _make_network(train: LabelledImages) -> nn.Module:
    return nn.Sequential(
        Rescale(train.value_range),
        *conv_block(train.images.shape[1], 16),
        nn.MaxPool2d(2),
        *conv_block(16, 32),
        nn.MaxPool2d(2),
        *conv_block(32, 64),
        nn.AdaptiveAvgPool2d(3),
        nn.Flatten(),
        nn.Linear(64 * 9, int(train.labels.max()) + 1),
    )


def _check_images(images: Tensor, targets: Tensor) -> None:
    check_images(images)
    if targets.dtype != torch.int64:
        raise TypeError(f"targets must be int64, got {targets.dtype}")
    if targets.shape != images.shape[:1]:
        raise ValueError(
            f"targets must have shape ({len(images)},) like the images, got {tuple(targets.shape)}"
        )
