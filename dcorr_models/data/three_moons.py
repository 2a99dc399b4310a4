"""Points of a plane in three half circles: the toy data of Lr-LiVAE."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from dcorr_models.data.base import DataSource, LabelledImages, Splits
from dcorr_models.data.splitting import check_seed
from dcorr_models.errors import DataError

__all__ = ["ThreeMoons"]


class ThreeMoons(DataSource):
    """Points of three half circles side by side, one a class, with Gaussian noise.

    A point of class k is (c + cos t, sin t) + σε with c = -2.2, 0 or 2.2, t uniform on
    [-π/2, π/2] and ε ~ N(0, I): the first coordinate tells the class, the second does not. Points
    are images of shape (2, 1, 1), as they are: nothing is scaled. `value_range`, (-4, 4), is what
    distances are measured by. `targets` is the angle t.

    The paper shows the points in a picture and prints no formula. Number, noise, seed and the
    centres are those of the published code; that the half circles stand upright is our reading of
    "one dimension (x axis) being label relevant and the other (y axis) being irrelevant".

    Args:
        train: Points to train on, the classes in turn.
        valid: Points to validate on.
        test: Points to test on. They stay the same when `train` changes, as those of `valid` do.
        noise: Standard deviation σ in both coordinates, 0 or more.
        seed: From 0 to 2**32 - 1.

    Raises:
        DataError: A number outside its range.

    Reference:
        Zheng and Sun 2019 (Lr-LiVAE), section 4.1 and Figure 2.

    Example:
        >>> train, _, test = ThreeMoons(train=30).splits()
        >>> batch = train[2]
        >>> batch["image"].shape, batch["label"].item()
        (torch.Size([2, 1, 1]), 2)
        >>> centres = [test.images[test.labels == k, 0].median() for k in range(3)]
        >>> [round(centre.item(), 1) for centre in centres]
        [-1.5, 0.7, 2.9]
    """

    name: ClassVar[str] = "three moons"
    image_shape = (2, 1, 1)
    label_names = ("left", "middle", "right")
    value_range = (-4.0, 4.0)
    target_names: ClassVar[tuple[str, ...]] = ("angle",)
    centres: ClassVar[tuple[float, ...]] = (-2.2, 0.0, 2.2)

    def __init__(
        self,
        train: int = 1_800_000,
        valid: int = 3_000,
        test: int = 9_000,
        noise: float = 0.15,
        seed: int = 0,
    ) -> None:
        if min(train, test) < 3 or valid < 0:
            raise DataError(
                "train and test need 3 points or more, one a class, and valid 0 or more, "
                f"got {train}, {test} and {valid}"
            )
        if not 0 <= noise < float("inf"):
            raise DataError(f"noise must be a number from 0 on, got {noise}")
        check_seed(seed)
        self.sizes = (train, valid, test)
        self.noise, self.seed = noise, seed

    def splits(self) -> Splits:
        """Draw the points: the same ones for the same arguments."""
        return Splits(*(self._draw(size, number) for number, size in enumerate(self.sizes)))

    def _draw(self, size: int, number: int) -> LabelledImages:
        # Streams of RandomState are frozen: the points survive an upgrade of NumPy.
        random = np.random.RandomState([self.seed, number])
        labels = np.arange(size, dtype=np.int64) % 3
        angle = random.uniform(-np.pi / 2, np.pi / 2, size)
        points = np.stack([np.asarray(self.centres)[labels] + np.cos(angle), np.sin(angle)], axis=1)
        points += self.noise * random.standard_normal(points.shape)
        return LabelledImages(
            torch.from_numpy(points.astype(np.float32)).reshape(size, 2, 1, 1),
            torch.from_numpy(labels),
            value_range=self.value_range,
            targets=torch.from_numpy(angle.astype(np.float32)).unsqueeze(1),
        )
