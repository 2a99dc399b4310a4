"""dSprites from its release: 737,280 white sprites on black ground."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, ClassVar

import numpy as np
import numpy.typing as npt

from dcorr_models.data.attribute_names import nearest
from dcorr_models.data.base import Splits
from dcorr_models.data.class_splits import check_shares, class_splits, held_out_classes
from dcorr_models.data.image_cache import Bytes, default_cache_folder
from dcorr_models.data.mapped_splits import Known, MappedSource, files_stamp
from dcorr_models.data.parallel import announced, to_stderr
from dcorr_models.data.splitting import stratified_order
from dcorr_models.errors import DataError

__all__ = ["DSprites"]

_Rows = npt.NDArray[np.int64]

SIDE = 64
FACTORS = ("shape", "scale", "orientation", "x", "y")
"""The columns of the release's latents after the first, the colour, which never varies."""
SHAPES = ("square", "ellipse", "heart")
_IMAGES_AT_ONCE = 4096
_BROKEN = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


class DSprites(MappedSource):
    """dSprites' 64x64 grey images, in [0, 1]: some of five factors are the class, the rest content.

    Each combination of the class factors is a class, each combination of the others a content.
    `targets` are the values of all five factors. The first and the last of the 40 orientations
    look alike, as do quarter turns of squares and half turns of ellipses: there an image does not
    tell its content.

    The archive holds 3 GB of images, which are read in pieces; the chosen ones are kept in `cache`.

    Args:
        path: The release's file `dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz`.
        classes: The factors that make the class, of shape, scale, orientation, x and y.
        images: How many of the images there are, chosen at random and evenly from the classes;
            all by default.
        valid: Share of the training classes' images that validates.
        test: Share of the images that tests, where no whole classes do.
        test_classes: How many classes test with all of their images, drawn at random, or which,
            such as `[heart]`; 0 for held-out images of the training classes.
        seed: Of the choices at random, from 0 to 2**32 - 1.
        cache: Folder for the chosen images; a folder in the user's cache by default.

    Reference:
        Matthey, Higgins, Hassabis and Lerchner, dSprites: disentanglement testing sprites dataset,
        2017.
    """

    name: ClassVar[str] = "dSprites"
    image_shape = (1, SIDE, SIDE)
    target_names: ClassVar[tuple[str, ...]] = FACTORS
    """Names of the columns of `targets`."""

    def __init__(
        self,
        path: str | Path = "data/dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz",
        classes: list[str] | None = None,
        images: int | None = None,
        valid: float = 0.1,
        test: float = 0.1,
        test_classes: int | list[str] = 0,
        seed: int = 0,
        cache: str | Path | None = None,
    ) -> None:
        chosen = ["shape"] if classes is None else classes
        for name in chosen:
            if name not in FACTORS:
                raise DataError(f"dSprites has no factor {name!r}{nearest(name, FACTORS)}")
        if not 0 < len(set(chosen)) < len(FACTORS):
            raise DataError(
                f"classes must be some of {', '.join(FACTORS)}, and leave some to the content, "
                f"got {chosen}"
            )
        if images is not None and images < 1:
            raise DataError(f"images must be 1 or more, got {images}")
        check_shares(valid, test, test_classes, seed)
        self.path = Path(path)
        self.folder = self.path.parent
        self.classes = tuple(name for name in FACTORS if name in chosen)
        self.images = images
        self.valid, self.test, self.test_classes = valid, test, test_classes
        self.seed = seed
        self.cache = default_cache_folder() if cache is None else Path(cache)

    @property
    def label_names(self) -> tuple[str, ...]:  # type: ignore[override]  # known to the file alone
        """Such as `heart` or `heart, scale 5`, in the order of the factors."""
        levels = self._levels(self.classes)
        return tuple(
            ", ".join(
                SHAPES[number] if name == "shape" else f"{name} {number}"
                for name, number in zip(self.classes, np.unravel_index(label, levels), strict=True)
            )
            for label in range(math.prod(levels))
        )

    @property
    def factor_names(self) -> tuple[str, ...]:  # type: ignore[override]  # known to the file alone
        """The factors that vary, all five in the release."""
        levels = self._levels(FACTORS)
        return tuple(name for name, count in zip(FACTORS, levels, strict=True) if count > 1)

    @property
    def factor_sizes(self) -> tuple[int, ...]:  # type: ignore[override]  # known to the file alone
        """Of `factor_names`."""
        return tuple(self._levels(self.factor_names))

    def splits(self) -> Splits:
        """Map the chosen images, which are read from the archive first if they are not there.

        Raises:
            DataError: If the archive is missing, broken, or not dSprites.
        """
        numbers, values = self._latents
        labels = self._combined(self.classes)
        known = Known(
            labels,
            self._combined([name for name in FACTORS if name not in self.classes]),
            values.astype(np.float32),
            numbers[:, [FACTORS.index(name) for name in self.factor_names]],
        )
        rows = np.arange(len(numbers))
        if self.images is not None:
            rows = np.sort(stratified_order(labels, self.seed)[: self.images])
        held_out = held_out_classes(self.test_classes, self.label_names, self.seed)
        parts = class_splits(
            labels[rows], held_out, valid=self.valid, test=self.test, seed=self.seed
        )
        settings = {"files": files_stamp([self.path]), "recipe": 1}
        return self._mapped(known, [rows[part] for part in parts], self._write, settings)

    def _combined(self, names: tuple[str, ...] | list[str]) -> _Rows:
        """One number for the levels of several factors."""
        columns = [self._latents[0][:, FACTORS.index(name)] for name in names]
        return np.ravel_multi_index(columns, self._levels(names)).astype(np.int64)

    def _levels(self, names: tuple[str, ...] | list[str]) -> list[int]:
        return [int(self._latents[0][:, FACTORS.index(name)].max()) + 1 for name in names]

    @cached_property
    def _latents(self) -> tuple[_Rows, npt.NDArray[np.float64]]:
        """Numbers and values of the factors of each image, both of shape (N, 5)."""
        with self._archive() as archive:
            numbers = np.load(archive.open("latents_classes.npy"), allow_pickle=False)
            values = np.load(archive.open("latents_values.npy"), allow_pickle=False)
        shapes = (numbers.shape, values.shape)
        fits = numbers.ndim == 2 and shapes == ((len(numbers), len(FACTORS) + 1),) * 2
        if not fits or not len(numbers):
            raise DataError(
                f"{self.path}: latents_classes and latents_values have shapes {shapes[0]} and "
                f"{shapes[1]}, wanted (N, {len(FACTORS) + 1}) both; is it dSprites' file?"
            )
        if numbers.min() < 0 or numbers[:, 1].max() >= len(SHAPES):
            raise DataError(
                f"{self.path}: latents_classes must be 0 or more, with shapes of up to "
                f"{len(SHAPES) - 1}, got {numbers.min()} and {numbers[:, 1].max()}"
            )
        return numbers[:, 1:].astype(np.int64), values[:, 1:].astype(np.float64)

    def _write(self, images: Bytes, places: _Rows) -> None:
        with self._archive() as archive, archive.open("imgs.npy") as stream:
            _check_images(self.path, stream, len(places))
            starts = range(0, len(places), _IMAGES_AT_ONCE)
            title = f"{self.name}, unpacked once into {self.cache}: blocks"
            for start in announced(iter(starts), len(starts), title, to_stderr):
                where = places[start : start + _IMAGES_AT_ONCE]
                content = stream.read(len(where) * SIDE * SIDE)
                if len(content) < len(where) * SIDE * SIDE:
                    raise DataError(f"{self.path} is truncated within its images; fetch it again")
                block = np.frombuffer(content, np.uint8).reshape(-1, SIDE, SIDE)
                if block.max() > 1:
                    raise DataError(
                        f"{self.path}: pixels must be 0 or 1, got {block.max()}; is it dSprites' "
                        "file?"
                    )
                images[where[where >= 0], 0] = 255 * block[where >= 0]

    @contextmanager
    def _archive(self) -> Iterator[zipfile.ZipFile]:
        """The release's file, which is a zip archive of arrays."""
        if not self.path.is_file():
            raise DataError(f"there is no file {self.path}; put dSprites' release there")
        try:
            with zipfile.ZipFile(self.path) as archive:
                yield archive
        except DataError:
            raise
        except _BROKEN as error:
            reason = " ".join(str(error).split())
            raise DataError(
                f"{self.path} cannot be read as dSprites' archive: {reason}; fetch it again"
            ) from error


def _check_images(path: Path, stream: IO[bytes], count: int) -> None:
    """Read the header of the images, up to the first of them."""
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    version = np.lib.format.read_magic(stream)
    if version not in readers:
        raise DataError(f"{path}: imgs is an array of the unknown version {version}")
    shape, fortran_order, dtype = readers[version](stream)
    if shape != (count, SIDE, SIDE) or dtype != np.uint8 or fortran_order:
        raise DataError(
            f"{path}: imgs has shape {shape} and type {dtype}, wanted {(count, SIDE, SIDE)} and "
            "uint8; is it dSprites' file?"
        )
