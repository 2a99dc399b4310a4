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


class ToyEncoder(nn.Sequential):
    def __init__(self, out: int) -> None:
        super().__init__(
            nn.Flatten(), nn.Linear(144, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2),
            nn.Linear(16, out),
        )  # fmt: skip


class ToyDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(7, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 144), nn.Sigmoid()
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
