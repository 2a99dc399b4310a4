"""Linear SVMs on pixels, solved exactly from the products of their training images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dcorr_models.data.base import LabelledImages
from dcorr_models.errors import UserError
from dcorr_models.metrics.attribute_labels import single_class

__all__ = ["LinearSvms", "Sampling", "pixels_of", "train_svms", "unit_pixels"]

_CHUNK = 500  # images at a time
_POOL = 4_000  # training images whose products with each other are held at once


class Sampling(NamedTuple):
    """How SVMs are trained; see the arguments of `svm_editing`."""

    repeats: int = 5
    max_per_side: int | None = 1_000
    penalty: float = 1.0
    standardise: bool = True
    balanced: bool = True
    seed: int = 0


@dataclass(frozen=True)
class LinearSvms:
    """The SVMs of one attribute, as hyperplanes on pixels in [0, 1].

    Attributes:
        weights: float64 (D, R), a column an SVM.
        biases: float64 (R,).
        train_images: How many images each of them learned from.
    """

    weights: Tensor
    biases: Tensor
    train_images: int

    def see(self, pixels: Tensor) -> Tensor:
        """Boolean (N, R): which SVM sees the attribute in which of the images (N, D)."""
        return pixels.double() @ self.weights + self.biases > 0


def train_svms(
    train: LabelledImages, columns: Sequence[int], sampling: Sampling, *, names: Sequence[str]
) -> list[LinearSvms]:
    """The SVMs of each attribute.

    In each of the repeats all attributes draw from the same random order of the images: the
    products of two images serve every attribute that learns from both.
    """
    mean, scale = _moments(train) if sampling.standardise else (torch.zeros(1), torch.ones(1))
    generator = torch.Generator().manual_seed(sampling.seed)
    planes: dict[int, list[tuple[Tensor, Tensor]]] = {column: [] for column in columns}
    for _ in range(sampling.repeats):
        order = torch.randperm(len(train), generator=generator)
        chosen = {column: _choose(train, column, order, sampling, names) for column in columns}
        for group in _groups(chosen):
            parts = {column: chosen[column] for column in group}
            normals, biases = _planes(train, parts, mean, scale, sampling.penalty)
            for column, normal, bias in zip(group, normals.T, biases, strict=True):
                planes[column].append((normal, bias))
    return [
        LinearSvms(
            torch.stack([normal for normal, _ in planes[column]], dim=1),
            torch.stack([bias for _, bias in planes[column]]),
            len(chosen[column]),
        )
        for column in columns
    ]


def _planes(
    train: LabelledImages, chosen: dict[int, Tensor], mean: Tensor, scale: Tensor, penalty: float
) -> tuple[Tensor, Tensor]:
    """Normals (D, K) and biases (K,), an SVM for each attribute, from the images chosen for it."""
    rows = torch.unique(torch.cat(list(chosen.values())))
    pixels = (pixels_of(train, rows) - mean) * scale  # (U, D), float32
    products = (pixels @ pixels.T).double()
    weights = torch.zeros(len(rows), len(chosen), dtype=torch.float64)
    biases = torch.zeros(len(chosen), dtype=torch.float64)
    for k, (column, own) in enumerate(chosen.items()):
        places = torch.searchsorted(rows, own)
        targets = train.labels[own, column]
        weights[places, k], biases[k] = _fit(products[places][:, places], targets, penalty)
    normals = (pixels.T @ weights.float()).double() * scale[:, None]  # (D, K)
    # on the pixels as they are: w·(x - mean) scale + b
    return normals, biases - (normals * mean[:, None]).sum(dim=0)


def _fit(products: Tensor, targets: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """How much each training image weighs in the normal, with its sign, and the bias."""
    from sklearn.svm import SVC

    svm: Any = SVC(C=penalty, kernel="precomputed").fit(products.numpy(), targets.numpy())
    weights = torch.zeros(len(targets), dtype=torch.float64)
    weights[torch.from_numpy(svm.support_).long()] = torch.from_numpy(svm.dual_coef_[0])
    return weights, torch.tensor(float(svm.intercept_[0]), dtype=torch.float64)


def _choose(
    train: LabelledImages, column: int, order: Tensor, sampling: Sampling, names: Sequence[str]
) -> Tensor:
    """Rows of the training images of one SVM: the first in the given order."""
    labels = train.labels[order, column]
    present, absent = order[labels == 1], order[labels == 0]
    limit = sampling.max_per_side
    if sampling.balanced:
        count = min(len(present), len(absent), limit or len(order))
        return torch.cat([present[:count], absent[:count]])
    taken = order[: 2 * limit if limit else len(order)]
    reason = single_class(train.labels[taken, column], "training images drawn")
    if reason:
        raise UserError(
            f"attribute {names[column]!r}: {reason}; draw more "
            "(svm_train_images), or as many with it as without (svm_balanced)"
        )
    return taken


def _groups(chosen: dict[int, Tensor]) -> Iterator[list[int]]:
    """Attributes whose images together are not too many to hold all their products."""
    group: list[int] = []
    pool = torch.empty(0, dtype=torch.int64)
    for column, rows in chosen.items():
        larger = torch.unique(torch.cat([pool, rows]))
        if group and len(larger) > _POOL:
            yield group
            group, larger = [], rows
        group, pool = [*group, column], larger
    yield group


def _moments(train: LabelledImages) -> tuple[Tensor, Tensor]:
    """Each pixel's mean, and the inverse of its standard deviation; 0 for a constant pixel."""
    total = squares = torch.zeros((), dtype=torch.float64)
    for rows in torch.split(torch.arange(len(train)), _CHUNK):
        pixels = pixels_of(train, rows).double()
        total, squares = total + pixels.sum(dim=0), squares + pixels.square().sum(dim=0)
    mean = total / len(train)
    variance = squares / len(train) - mean.square()
    # the least spread that bytes can have is that of one step of 1/255 in a single image
    constant = variance < 0.5 / 255**2 / len(train) * (1 - 1 / len(train))
    return mean.float(), torch.where(constant, 0.0, variance.clamp_min(1e-30).rsqrt()).float()


def pixels_of(data: LabelledImages, rows: Tensor) -> Tensor:
    """Some of the images: float32 (N, D) in [0, 1]."""
    return unit_pixels(data.__getitems__(rows.tolist())["image"], data.value_range)


def unit_pixels(images: Tensor, value_range: tuple[float, float]) -> Tensor:
    """Images as float32 (N, D) on the CPU, in [0, 1], clamped as a picture file would."""
    low, high = value_range
    return ((images.cpu().flatten(1).float() - low) / (high - low)).clamp_(0.0, 1.0)
