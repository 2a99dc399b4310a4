"""A data set and a method small enough for a hundred tests."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dcorr_models.data import DataSource, LabelledImages, Splits
from dcorr_models.methods import CDNet
from dcorr_models.nets.cdnet import CriticOutput


class ToyImages(DataSource):
    """Four classes of 12x12 images: a bright quadrant on noise. Learnable in twenty steps.

    Args:
        train: images of the training split.
        seed: of the noise.
    """

    name = "toy"

    def __init__(self, *, train: int = 96, seed: int = 0) -> None:
        self.train, self.seed = train, seed
        self.image_shape = (1, 12, 12)
        self.label_names = ("0", "1", "2", "3")

    def splits(self) -> Splits:
        generator = torch.Generator().manual_seed(self.seed)
        return Splits(*(self._draw(n, generator) for n in (self.train, 16, 48)))

    def _draw(self, n: int, generator: torch.Generator) -> LabelledImages:
        labels = torch.arange(n) % 4
        images = torch.randint(0, 60, (n, 1, 12, 12), generator=generator, dtype=torch.uint8)
        for i, label in enumerate(labels.tolist()):
            row, column = 6 * (label // 2), 6 * (label % 2)
            images[i, :, row : row + 6, column : column + 6] += 180
        return LabelledImages(images, labels)


class ToyAttributes(DataSource):
    """Three independent attributes of 12x12 images: each a bright quadrant on noise.

    Args:
        train: images of the training split.
        seed: of attributes and noise.
    """

    name = "toy attributes"
    multilabel = True

    def __init__(self, *, train: int = 96, seed: int = 0) -> None:
        self.train, self.seed = train, seed
        self.image_shape = (1, 12, 12)
        self.label_names = ("Eyeglasses", "Smiling", "Mustache")

    def splits(self) -> Splits:
        generator = torch.Generator().manual_seed(self.seed)
        return Splits(*(self._draw(n, generator) for n in (self.train, 16, 48)))

    def _draw(self, n: int, generator: torch.Generator) -> LabelledImages:
        labels = torch.randint(0, 2, (n, 3), generator=generator, dtype=torch.uint8)
        images = torch.randint(0, 60, (n, 1, 12, 12), generator=generator, dtype=torch.uint8)
        for k in range(3):
            row, column = 6 * (k // 2), 6 * (k % 2)
            quadrant = images[:, :, row : row + 6, column : column + 6]
            quadrant += 180 * labels[:, k, None, None, None]
        return LabelledImages(images, labels.float())


class ToyEncoder(nn.Sequential):
    def __init__(self, out: int) -> None:
        super().__init__(
            nn.Flatten(), nn.Linear(144, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2),
            nn.Linear(16, out),
        )  # fmt: skip


class ToyDecoder(nn.Module):
    def __init__(self, labels: int = 4) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(labels + 3, 16),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.Linear(16, 144),
            nn.Sigmoid(),
        )

    def forward(self, label_code: Tensor, residual: Tensor) -> Tensor:
        return self.net(torch.cat([label_code, residual], dim=1)).unflatten(1, (1, 12, 12))


class ToyCritic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Flatten(), nn.Linear(144, 16))
        self.head = nn.Sequential(nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1))

    def forward(self, images: Tensor) -> CriticOutput:
        features = self.trunk(images)
        return CriticOutput(self.head(features), features)


def toy_cdnet(seed: int = 0, **options: object) -> CDNet:
    """A CDNet on `ToyImages` with small networks of the user's own."""
    torch.manual_seed(seed)
    settings: dict = {
        "image_shape": (1, 12, 12),
        "num_labels": 4,
        "latent_dim": 3,
        "batch_size": 24,
        "label_steps": 10,
        "label_lr": 1e-2,
        "steps": 12,
        "lr": 1e-3,
        "decorrelation_ramp": 6,
        "label_encoder": ToyEncoder(4),
        "residual_encoder": ToyEncoder(3),
        "decoder": ToyDecoder(),
        "discriminator": ToyCritic(),
    }
    return CDNet(**(settings | options))


def toy_attribute_cdnet(seed: int = 0, **options: object) -> CDNet:
    """The same on `ToyAttributes`."""
    torch.manual_seed(seed)
    networks: dict = {"label_encoder": ToyEncoder(3), "decoder": ToyDecoder(3)}
    return toy_cdnet(seed, **({"num_labels": 3, "multilabel": True} | networks | options))
