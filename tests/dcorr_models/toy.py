"""A data set and a method small enough for a hundred tests."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dcorr_models.data import DataSource, LabelledImages, Splits
from dcorr_models.methods import CDNet
from dcorr_models.methods.base import Codes
from dcorr_models.methods.class_conditional import ClassConditional
from dcorr_models.methods.class_content import ClassContent
from dcorr_models.nets.cdnet import CriticOutput
from dcorr_models.training.stage import Stage


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


class ToyContents(DataSource):
    """Classes and contents of 12x12 images: the upper half's grey level, and which bar is lit.

    Args:
        copies: images of each class with each content; they differ by at most 1 / 255.
        test_classes: how many of the eight classes only the test split has; 0: all splits share
            all classes.
        known: images know their content, and the place of their bar as a target.
    """

    name = "toy contents"

    def __init__(self, *, copies: int = 4, test_classes: int = 0, known: bool = True) -> None:
        self.copies, self.test_classes, self.known = copies, test_classes, known
        self.image_shape = (1, 12, 12)
        self.label_names = tuple("abcdefgh")

    def splits(self) -> Splits:
        generator = torch.Generator().manual_seed(0)
        first_test = 8 - self.test_classes if self.test_classes else 0
        seen = range(8 - self.test_classes)
        return Splits(
            self._draw(seen, self.copies, generator),
            self._draw(seen, 1, generator),
            self._draw(range(first_test, 8), 1, generator),
        )

    def _draw(self, classes: range, copies: int, generator: torch.Generator) -> LabelledImages:
        pairs = [(k, c) for _ in range(copies) for k in classes for c in range(4)]
        labels, content = torch.tensor(pairs).T.contiguous()
        images = torch.randint(0, 2, (len(pairs), 1, 12, 12), generator=generator).byte()
        images[:, :, :6] += (30 * labels[:, None, None, None]).byte()
        for row, c in enumerate(content.tolist()):
            images[row, :, 6:, 3 * c : 3 * c + 3] += 200
        if not self.known:
            return LabelledImages(images, labels)
        return LabelledImages(images, labels, content=content, targets=content[:, None].float())


class ToyClassContent(ClassContent):
    """Reads and paints `ToyContents`: exact by construction, nothing to train.

    Args:
        leaks: the content code holds the class too, though the decoder does not look there.
        vectors: the method knows a vector for each class but the last.
        variational: the content code has a posterior, narrow but in its last number, which is the
            prior.
    """

    def __init__(
        self, *, leaks: bool = False, vectors: bool = False, variational: bool = False
    ) -> None:
        super().__init__()
        self.image_shape, self.num_labels = (1, 12, 12), 8
        self.class_dim, self.content_dim = 1, 5
        self.value_range = (0.0, 1.0)
        self.leaks, self.vectors, self.variational = leaks, vectors, variational
        self.anchor = nn.Parameter(torch.zeros(()))

    def stages(self) -> list[Stage]:
        return []

    def encode(self, images: Tensor) -> Codes:
        level = images[:, 0, :6].mean(dim=(1, 2))[:, None]
        bars = images[:, 0, 6:].unflatten(2, (4, 3)).mean(dim=(1, 3))
        last = level if self.leaks else torch.zeros_like(level)
        return Codes(level, torch.cat([bars, last], dim=1))

    def decode(self, codes: Codes) -> Tensor:
        upper = codes.label[:, :, None, None].expand(-1, 1, 6, 12)
        lower = codes.residual[:, None, None, :4].expand(-1, 1, 6, 4)
        return torch.cat([upper, lower.repeat_interleave(3, dim=3)], dim=2)

    def class_vectors(self) -> Tensor | None:
        if not self.vectors:
            return None
        levels = torch.arange(8.0) * 30 / 255
        return torch.where(levels < levels[-1], levels, torch.nan)[:, None]

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor] | None:
        if not self.variational:
            return None
        mean = self.encode(images).residual
        return mean, torch.tensor([-6.0, -6.0, -6.0, -6.0, 0.0]).expand_as(mean)


class ToySamples(ClassConditional):
    """Draws `ToyImages`: exact by construction, nothing to train, no encoder.

    Args:
        collapsed: every sample of a class is the same image.
        known: how many of the four classes can be drawn.
        wrong: a sample shows the class after the one asked for.
    """

    has_encoder = False
    samples_from = "noise"

    def __init__(self, *, collapsed: bool = False, known: int = 4, wrong: bool = False) -> None:
        super().__init__()
        self.image_shape, self.num_labels = (1, 12, 12), 4
        self.collapsed, self.known, self.wrong = collapsed, known, wrong
        self.anchor = nn.Parameter(torch.zeros(()))

    def stages(self) -> list[Stage]:
        return []

    def known_classes(self) -> Tensor:
        return torch.arange(self.known)

    def sample(self, labels: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        self.check_classes(labels)
        noise = torch.rand(len(labels), 1, 12, 12, generator=generator) * 60 / 255
        images = torch.full_like(noise, 30 / 255) if self.collapsed else noise
        for i, label in enumerate(((labels + self.wrong) % 4).tolist()):
            row, column = 6 * (label // 2), 6 * (label % 2)
            images[i, :, row : row + 6, column : column + 6] += 180 / 255
        return images


class ToyGaussians(ToyClassContent, ClassConditional):
    """Draws `ToyContents` from its own codes: a class's grey level, and a bar at random.

    Args:
        known: how many of the eight classes have a Gaussian.
        spread: standard deviation of the class code.
    """

    samples_from = "class Gaussians"

    def __init__(self, *, known: int = 8, spread: float = 0.0) -> None:
        super().__init__(variational=True)
        self.known, self.spread = known, spread

    def known_classes(self) -> Tensor:
        return torch.arange(self.known)

    def draw_codes(self, labels: Tensor, *, generator: torch.Generator | None = None) -> Codes:
        self.check_classes(labels)
        noise = torch.randn(len(labels), 1, generator=generator)
        bars = torch.randint(4, (len(labels),), generator=generator)
        content = nn.functional.one_hot(bars, 5).float() * 200 / 255
        return Codes(labels[:, None] * 30 / 255 + self.spread * noise, content)

    def sample(self, labels: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        return self.decode(self.draw_codes(labels, generator=generator))
