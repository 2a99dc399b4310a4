"""Colour, noise and a painting behind white sprites: dSprites' three variants."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from dcorr_models.data.base import DataSource, Splits
from dcorr_models.data.counter_noise import random_bytes
from dcorr_models.data.redrawn import RedrawnImages
from dcorr_models.data.splitting import check_seed
from dcorr_models.data.wrapped import WrappedSource
from dcorr_models.errors import DataError, UserError
from dcorr_models.pictures import load_picture

__all__ = ["SpriteVariant"]

_Variant = Literal["colour_id_gan", "colour_lib", "noisy", "scream"]
_WIDTH, _HEIGHT = 350, 274
"""What a picture is shrunk to fit into."""


class SpriteVariant(WrappedSource):
    """White sprites of another data set in colours, on noise or on pieces of a picture, in [0, 1].

    The images get three channels. The factors stay the other data set's: colour, noise and piece
    are none. They are drawn anew at every step of a training, as a function of `seed`, the image
    and the step alone, so that a resumed training sees what the uninterrupted one sees, with any
    number of loader processes. Metrics and pictures see each image with one fixed drawing.

    All that is random comes in steps of a byte. A pixel that a sprite covers in part mixes sprite
    and ground by its share.

    Args:
        data: Images of one channel, in [0, 1], such as `DSprites` or `GreySprites`.
        variant: "colour_id_gan": each channel of the sprite has one of the 8 levels of
            linspace(0, 1, 8), black sprites included (ID-GAN's paper and code). "colour_lib": each
            channel uniform from 1/2 to 1 (disentanglement_lib); the two are different data sets.
            "noisy": the ground's pixels and channels are uniform from 0 to 1, the sprite white.
            "scream": the ground is the mean of a piece of `picture` and of one colour, the sprite
            is the ground's negative.
        picture: Image file for "scream", shrunk to fit into 350 x 274 pixels; the original is
            Munch's painting, which does not come with the package. By default a generated texture
            of 216 x 270 pixels.
        seed: Of all that is random, from 0 to 2**32 - 1.

    Raises:
        DataError: Images of several channels or of another range, an unknown variant, a picture
            without "scream".

    Example:
        >>> from dcorr_models.data import GreySprites
        >>> grey = GreySprites(size=32, orientations=4, positions=4)
        >>> train = SpriteVariant(grey, variant="colour_lib").splits().train
        >>> image = train[0]["image"]
        >>> image.shape, len(image.flatten(1).unique(dim=1).T)  # a colour and the ground
        (torch.Size([3, 32, 32]), 2)

    Reference:
        Locatello et al., Challenging common assumptions in the unsupervised learning of
        disentangled representations, 2019. Lee et al., High-fidelity synthesis with disentangled
        representation, 2020.
    """

    def __init__(
        self,
        data: DataSource,
        variant: _Variant = "colour_id_gan",
        picture: str | Path | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(data)
        if variant not in get_args(_Variant):
            raise DataError(
                f"variant must be one of {', '.join(get_args(_Variant))}, got {variant!r}"
            )
        if picture is not None and variant != "scream":
            raise DataError(f"picture is for the variant scream, not for {variant}: leave it out")
        if data.image_shape[0] != 1 or data.value_range != (0.0, 1.0):
            raise DataError(
                "sprite variants need images of 1 channel in [0, 1], got "
                f"{data.image_shape[0]} in {list(data.value_range)} of {data.name}: take "
                "GreySprites or DSprites"
            )
        check_seed(seed)
        self.variant, self.seed = variant, seed
        self.picture = None if picture is None else Path(picture)
        self.image_shape = (3, *data.image_shape[1:])

    @property
    def name(self) -> str:  # type: ignore[override]  # follows the data set inside
        """The data set's and the variant."""
        return f"{self.data.name}, {self.variant}"

    def splits(self) -> Splits:
        """The data set's splits, changed.

        Raises:
            DataError: As from the data set; a picture that is missing, broken or too small.
        """
        return self._changed(self.data.splits())

    def evaluation_splits(self) -> Splits:
        """The data set's own, changed alike."""
        return self._changed(self.data.evaluation_splits())

    def prepare(self, *, mirror: str | None = None, say: Callable[[str], None] = print) -> None:
        """As the data set itself; the picture is looked at."""
        super().prepare(mirror=mirror, say=say)
        _ = self._ground  # refuses a picture that cannot be read

    def check_files(self, *, say: Callable[[str], None] = print) -> None:
        """As the data set itself, and the picture."""
        super().check_files(say=say)
        if self._ground is not None:
            height, width = self._ground.shape[1:]
            say(f"{self.name}: read a picture, now {width} x {height} pixels")

    def _changed(self, parts: Splits) -> Splits:
        # a seed for each split: image i of one is not drawn like image i of another
        return Splits(
            *(
                RedrawnImages(
                    part,
                    _Drawing(self.variant, 3 * self.seed + place, self._ground),
                    self.image_shape,
                )
                for place, part in enumerate(parts)
            )
        )

    @cached_property
    def _ground(self) -> Tensor | None:
        """What pieces are cut from, uint8 (3, height, width)."""
        if self.variant != "scream":
            return None
        if self.picture is None:
            return _texture()
        if not self.picture.is_file():
            raise DataError(f"there is no picture {self.picture}; leave it out for a texture")
        try:
            picture = load_picture(self.picture).convert("RGB")
        except UserError as error:
            raise DataError(f"{self.picture} {error}") from error
        picture.thumbnail((_WIDTH, _HEIGHT))
        height, width = self.image_shape[1:]
        if picture.width < width or picture.height < height:
            raise DataError(
                f"{self.picture} has {picture.width} x {picture.height} pixels once it fits into "
                f"{_WIDTH} x {_HEIGHT}, too few for pieces of {width} x {height}"
            )
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


class _Drawing(nn.Module):
    """Images of sprites and numbers; a module, so that the picture goes to a GPU once."""

    ground: Tensor | None

    def __init__(self, variant: _Variant, seed: int, ground: Tensor | None) -> None:
        super().__init__()
        self.variant, self.seed = variant, seed
        self.register_buffer("ground", ground)

    def forward(self, covered: Tensor, numbers: Tensor) -> Tensor:
        sides = covered.shape[2:]
        if self.variant == "noisy":
            noise = random_bytes(numbers, 3 * sides.numel(), seed=self.seed)
            ground = noise.reshape(-1, 3, *sides) / 255
            return torch.lerp(ground, ground.new_ones(()), covered)
        if self.variant == "scream":
            ground = self._pieces(numbers, *sides)
            return torch.lerp(ground, 1 - ground, covered)
        colour = random_bytes(numbers, 3, seed=self.seed)
        # the byte's upper three bits are ID-GAN's level
        shade = (colour >> 5) / 7 if self.variant == "colour_id_gan" else 0.5 + colour / 510
        return covered * shade[:, :, None, None]

    def _pieces(self, numbers: Tensor, height: int, width: int) -> Tensor:
        assert self.ground is not None
        random = random_bytes(numbers, 7, seed=self.seed).to(torch.int64)
        starts = random[:, 3:5] * 256 + random[:, 5:]
        # (3, places down, places across, height, width), a view
        pieces = self.ground.unfold(1, height, 1).unfold(2, width, 1)
        # 16 random bits times the number of places: the upper bits of the product are a place
        top, left = (starts[:, way] * pieces.shape[1 + way] >> 16 for way in (0, 1))
        chosen = pieces[:, top, left].transpose(0, 1).to(torch.float32)
        return chosen.add_(random[:, :3, None, None]).div_(510)


def _texture() -> Tensor:
    """Clouds of four sizes, each half as strong as the one before, in three colours apart."""
    sizes = [(4 * 2**octave, 5 * 2**octave) for octave in range(4)]
    total = np.zeros((270, 216, 3))
    for octave, (width, height) in enumerate(sizes):
        noise = random_bytes(torch.tensor([octave]), 3 * width * height)
        small = Image.fromarray(noise.reshape(height, width, 3).numpy())
        large = small.resize((216, 270), Image.Resampling.BICUBIC)
        total += np.asarray(large, dtype=np.float64) / 2**octave
    scaled = total * (8 / 15)  # the strengths add up to 15/8
    return torch.from_numpy(scaled.astype(np.uint8)).permute(2, 0, 1).contiguous()
