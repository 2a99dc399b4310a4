"""CelebA-HQ from a folder of its images: 30,000 faces of 1024 x 1024 pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dcorr_models.data.base import LabelledImages, Splits
from dcorr_models.data.decoded_source import DecodedSource, Listing
from dcorr_models.data.image_cache import Bytes
from dcorr_models.data.image_files import BROKEN
from dcorr_models.errors import DataError, UserError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["CelebAHQ"]

_ENDINGS = (".jpg", ".jpeg", ".png", ".webp")


class CelebAHQ(DecodedSource):
    """Photographs of faces in high resolution, in [0, 1], all of one class: there are no labels.

    The folder holds square images, at least as large as `size`, by any names and in folders of any
    depth. Larger ones are shrunk by Pillow's Lanczos filter. At 1024 pixels the decoded images
    would fill 94 GB, so they are decoded whenever they are asked for, by
    `--loop.num_workers` processes; smaller ones are worth keeping (`keep`).

    Args:
        folder: Folder of the images.
        size: Side of the images in pixels.
        keep: Decode all images once, into `cache`.
        valid: Share of the images that validates.
        test: Share of the images that tests; 0 to train on all, as ID-GAN does.
        seed: Of the choices at random, from 0 to 2**32 - 1.
        skip_corrupt: With `keep`, leave out image files that are broken, and say how many, instead
            of stopping.
        cache: Folder for the decoded images; a folder in the user's cache by default.

    Reference:
        Karras, Aila, Laine and Lehtinen, Progressive growing of GANs for improved quality,
        stability, and variation, 2018.
    """

    name: ClassVar[str] = "CelebA-HQ"

    def __init__(
        self,
        folder: str | Path = "data/celeba_hq",
        size: int = 1024,
        keep: bool = False,
        valid: float = 0.0,
        test: float = 0.1,
        seed: int = 0,
        skip_corrupt: bool = False,
        cache: str | Path | None = None,
    ) -> None:
        super().__init__(
            folder,
            size,
            valid=valid,
            test=test,
            seed=seed,
            skip_corrupt=skip_corrupt,
            cache=cache,
        )
        if skip_corrupt and not keep:
            raise DataError(
                "skip_corrupt looks at all files beforehand, which only keep does: set keep too"
            )
        self.keep = keep

    def _list(self) -> Listing:
        paths = sorted(p for p in self.folder.rglob("*") if p.suffix.lower() in _ENDINGS)
        if not paths:
            raise DataError(f"{self.folder} has no image ({', '.join(_ENDINGS)})")
        files = tuple(str(path.relative_to(self.folder)) for path in paths)
        return Listing(files, ("face",), np.zeros(len(files), dtype=np.int64))

    def _cut(self, picture: Image.Image, row: int) -> Image.Image:
        size = self.image_shape[-1]
        if picture.width != picture.height or picture.width < size:
            raise DataError(
                f"is {picture.width} x {picture.height} pixels, wanted a square of {size} or more"
            )
        return picture

    def _splits(self, say: Callable[[str], None]) -> Splits:
        if self.keep:
            return super()._splits(say)
        parts = (_FileImages(self._read_row, rows, self.image_shape) for rows in self._parts())
        return Splits(*parts)

    def _read_row(self, row: int) -> Bytes:
        path = self.folder / self._listing.files[row]
        way_out = "find all that are broken with `dcorr-models prepare --verify`"
        try:
            return self._decoded(path.read_bytes(), row)
        except UserError as error:
            raise DataError(f"{path} {error}; {way_out}") from error
        except BROKEN as error:
            raise DataError(f"{path} cannot be read: {error}; {way_out}") from error


class _FileImages(LabelledImages):
    """Images that are decoded whenever they are asked for."""

    def __init__(
        self, read: Callable[[int], Bytes], rows: npt.NDArray[np.int64], shape: tuple[int, int, int]
    ) -> None:
        # a shape without bytes, which cannot be mistaken for images: reading from it fails
        nothing = torch.empty(len(rows), *shape, dtype=torch.uint8, device="meta")
        super().__init__(nothing, torch.zeros(len(rows), dtype=torch.int64))
        self._read, self._rows = read, rows

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """A batch in the order of `indices`, decoded now."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        images = np.stack([self._read(int(self._rows[i])) for i in index])
        return {
            "image": self._to_float(torch.from_numpy(images)),
            "label": self.labels[index],
            "index": index,
        }
