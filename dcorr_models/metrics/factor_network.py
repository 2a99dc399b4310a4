"""A small ConvNet that reads the ground-truth factors of images: features for Fréchet distances."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcorr_models.data.base import LabelledImages
from dcorr_models.metrics.convnet import fit_convnet, in_chunks, strided_trunk

__all__ = ["FEATURES", "FactorNetwork", "train_factor_network"]

FEATURES = 256


@dataclass(frozen=True)
class FactorNetwork:
    """A trained network with what is known about it.

    Attributes:
        trunk: Takes images in `value_range`, returns 256 features; in evaluation mode.
        heads: From the features to scores of all factors' values, one factor after the other.
        sizes: How many values each factor has that is read.
        columns: Which of the data's factors these are.
        value_range: Lowest and highest value of the images.
        train_images: How many it has learned from.
        accuracy: Share of the held-out images of which it reads each factor right; None if it was
            trained without any.
        chance: Share of the most frequent value among them.
        seed: Of its initial weights and the order of images.
    """

    trunk: nn.Module
    heads: nn.Module
    sizes: tuple[int, ...]
    columns: tuple[int, ...]
    value_range: tuple[float, float]
    train_images: int
    accuracy: tuple[float, ...] | None
    chance: tuple[float, ...] | None
    seed: int


def train_factor_network(
    train: LabelledImages,
    *,
    held_out: LabelledImages | None = None,
    images: int | None = None,
    epochs: int = 4,
    seed: int = 0,
) -> FactorNetwork:
    """Train a network on real images to name the value of every factor that varies.

    Protocol. 3x3 convolutions of stride 2 with batch norm and ReLU, of 16, 32, 32 and 64 channels
    for 64 pixels, down to 4 pixels; a layer of 256 features with ReLU; a softmax for each factor
    upon these. The sum of their cross-entropies, AdamW (weight decay 0.01), batches of about 100,
    one-cycle rate with peak 3e-3; images are not shifted, since places are factors. The published
    network of ID-GAN is not described, so distances by it do not compare with the paper's.

    A factor that cannot be read, such as the orientation of a square beyond a quarter turn, keeps
    its accuracy low whatever the network: the accuracy of each stands beside the distance.

    The seed alone decides the result, on the CPU with a given number of threads. PyTorch's global
    random state is neither read nor changed.

    Args:
        train: At least two images with factors.
        held_out: Images that the accuracies are measured on.
        images: How many of `train` it learns from at most, drawn at random; None for all.
        epochs: Passes over them.
        seed: See `FactorNetwork`.

    Returns:
        The network, on the device of the images.

    Raises:
        ValueError: If images have no factors, all factors are constant, there are fewer than two
            images, or `epochs` is below 1.

    Example:
        >>> grey = torch.tensor([0, 255], dtype=torch.uint8).repeat(30).reshape(60, 1, 1, 1)
        >>> factors = (grey > 0).long().reshape(60, 1)
        >>> data = LabelledImages(
        ...     grey.expand(60, 1, 8, 8), torch.zeros(60, dtype=torch.int64), factors=factors
        ... )
        >>> train_factor_network(data, held_out=data).accuracy
        (1.0,)
    """
    factors = _factors("train", train)
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}")
    if len(train) < 2:
        raise ValueError(f"train needs at least two images, got {len(train)}")
    varied = factors.amax(dim=0) > factors.amin(dim=0)
    columns = varied.nonzero()[:, 0].tolist()
    if not columns:
        raise ValueError("every factor of the images has one value: there is nothing to learn")
    rows = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:images]
    sizes = [int(factors[:, k].max()) + 1 for k in columns]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        trunk = strided_trunk(train.images.shape[1:], train.value_range, FEATURES)
        heads = nn.Linear(FEATURES, sum(sizes))
    network = nn.Sequential(trunk, heads).to(train.__getitems__([0])["image"].device)

    def loss(scores: Tensor, wanted: Tensor) -> Tensor:
        pairs = zip(torch.split(scores, sizes, dim=1), wanted.unbind(1), strict=True)
        return torch.stack([F.cross_entropy(*pair) for pair in pairs]).sum()

    fit_convnet(
        network,
        train,
        loss,
        epochs=epochs,
        seed=seed,
        rows=rows,
        targets=factors[:, columns],
        shift=False,
    )
    found = FactorNetwork(
        trunk, heads, tuple(sizes), tuple(columns), train.value_range, len(rows), None, None, seed
    )
    return found if held_out is None else _scored(found, held_out)


def _scored(network: FactorNetwork, held_out: LabelledImages) -> FactorNetwork:
    known = _factors("held_out", held_out)[:, list(network.columns)]
    whole = nn.Sequential(network.trunk, network.heads)
    right = torch.zeros(len(network.sizes))
    for rows in torch.split(torch.arange(len(held_out)), 1000):
        images = held_out.__getitems__(rows.tolist())["image"]
        for scores in in_chunks(whole, images, network.value_range):
            parts = torch.split(scores.cpu(), list(network.sizes), dim=1)
            guess = torch.stack([part.argmax(dim=1) for part in parts], dim=1)
            right += (guess == known[rows]).sum(dim=0)
    most = [torch.bincount(column).max() / len(known) for column in known.unbind(1)]
    accuracy, chance = (right / len(known)).tolist(), torch.stack(most).tolist()
    return replace(network, accuracy=tuple(accuracy), chance=tuple(chance))


def _factors(name: str, images: LabelledImages) -> Tensor:
    if images.factors is None:
        raise ValueError(f"{name} knows no factors of its images: take other features")
    return images.factors
