"""Data sets of image files in a folder that are cut, shrunk and kept in a cache, once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from dcorr_models.data.base import DataSource, Splits
from dcorr_models.data.class_splits import HeldOut, check_shares, class_splits, held_out_classes
from dcorr_models.data.image_cache import Bytes, default_cache_folder
from dcorr_models.data.image_files import (
    FolderFiles,
    cut_splits,
    decoded_images,
    find_broken,
    open_picture,
)
from dcorr_models.data.parallel import to_stderr
from dcorr_models.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["DecodedSource", "Listing"]

_Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Listing:
    """What is known of all images before a file is opened.

    Args:
        files: Names in the folder.
        names: Of the classes.
        labels: Class of each, int64 of shape (N,).
        content: Content of each, int64 of shape (N,), where it is known.
        factors: The factors' levels, int64 of shape (N, F), where they are known.
    """

    files: tuple[str, ...]
    names: tuple[str, ...]
    labels: _Rows
    content: _Rows | None = None
    factors: _Rows | None = None


class DecodedSource(DataSource):
    """Square images by Pillow's Lanczos filter, in [0, 1]; a subclass lists and cuts them."""

    def __init__(
        self,
        folder: str | Path,
        size: int,
        *,
        test_classes: HeldOut = 0,
        valid: float,
        test: float,
        seed: int,
        skip_corrupt: bool,
        cache: str | Path | None,
    ) -> None:
        if size < 1:
            raise DataError(f"size must be 1 or more, got {size}")
        check_shares(valid, test, test_classes, seed)
        self.folder = Path(folder)
        self.image_shape = (3, size, size)
        self.test_classes, self.valid, self.test = test_classes, valid, test
        self.seed = seed
        self.skip_corrupt = skip_corrupt
        self.cache = default_cache_folder() if cache is None else Path(cache)

    @property
    def label_names(self) -> tuple[str, ...]:  # type: ignore[override]  # known to the files alone
        """Of the classes."""
        return self._listing.names

    @cached_property
    def _listing(self) -> Listing:
        if not self.folder.is_dir():
            raise DataError(
                f"the folder {self.folder} for {self.name} does not exist; put its release there"
            )
        return self._list()

    @abstractmethod
    def _list(self) -> Listing:
        """All images of the folder, which exists; a `DataError` says what is wrong with it."""

    @abstractmethod
    def _cut(self, picture: Image.Image, row: int) -> Image.Image:
        """The part of an image that is shrunk; a `DataError` goes on after the file's name."""

    def _recipe(self) -> dict[str, Any]:
        """What else than file and size decides the look of an image: part of the cache's key."""
        return {}

    def splits(self) -> Splits:
        """Map the decoded images, which are decoded first if they are not there.

        Raises:
            DataError: If the folder or a file is missing, broken, or not what it should be.
        """
        return self._splits(to_stderr)

    def prepare(self, *, mirror: str | None = None, say: Callable[[str], None] = print) -> None:
        """Decode the images into the cache, so that a training finds them.

        Args:
            mirror: Must be left out: nothing is downloaded.
            say: Takes each line of progress.

        Raises:
            DataError: As from `splits`, or if a mirror is named.
        """
        if mirror is not None:
            raise DataError(
                f"{self.name} is not downloaded; leave the mirror {mirror} out and put the files "
                f"of the release into {self.folder}"
            )
        parts = self._splits(say)
        say(f"{self.name}: {' + '.join(str(len(part)) for part in parts)} images ready")

    def check_files(self, *, say: Callable[[str], None] = print) -> None:
        """Decode every image file and name those that are broken.

        Args:
            say: Takes each line of progress, and one for each broken file.

        Raises:
            DataError: If a file is missing or broken.
        """
        rows = np.arange(len(self._listing.files))
        files = self._files(rows)
        find_broken(
            files,
            lambda place: self._decoded(files.read(place), int(rows[place])),
            name=self.name,
            say=say,
        )

    def _parts(self) -> list[_Rows]:
        """The rows of the listing that train, validate and test."""
        held_out = held_out_classes(self.test_classes, self.label_names, self.seed)
        labels = self._listing.labels
        return class_splits(labels, held_out, valid=self.valid, test=self.test, seed=self.seed)

    def _splits(self, say: Callable[[str], None]) -> Splits:
        parts = self._parts()
        # in the order of the splits, so that each of them is one stretch of the mapped file
        rows = np.concatenate(parts)
        files = self._files(rows)
        cached = decoded_images(
            files,
            lambda place: self._decoded(files.read(place), int(rows[place])),
            self.image_shape,
            name=self.name.lower().replace(" ", "-"),
            settings={"size": self.image_shape[-1], "recipe": 1, **self._recipe()},
            cache=self.cache,
            skip_corrupt=self.skip_corrupt,
            say=say,
        )
        known = self._listing
        return cut_splits(
            cached,
            parts,
            torch.from_numpy(known.labels),
            self.value_range,
            content=None if known.content is None else torch.from_numpy(known.content),
            factors=None if known.factors is None else torch.from_numpy(known.factors),
        )

    def _files(self, rows: _Rows) -> FolderFiles:
        files = FolderFiles(self.folder, [self._listing.files[row] for row in rows])
        files.require_all("unpack the release again")
        return files

    def _decoded(self, content: bytes, row: int) -> Bytes:
        """The image of a file's content, uint8 (3, size, size)."""
        from PIL import Image

        part = self._cut(open_picture(content), row)
        small = part.resize(self.image_shape[1:], Image.Resampling.LANCZOS)
        return np.asarray(small).transpose(2, 0, 1)
