"""Your own classes: a folder for each, with contents where the files' names or a table say them."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch

from dcorr_models.data.base import Splits
from dcorr_models.data.class_splits import (
    check_shares,
    class_splits,
    held_out_classes,
    require_two_images,
)
from dcorr_models.data.content_table import Contents, contents_from_names, read_contents
from dcorr_models.data.image_cache import CachedImages
from dcorr_models.data.image_files import a_few, cut_splits
from dcorr_models.data.image_folder import ImageFolder, table_of_folders
from dcorr_models.data.label_table import LabelTable
from dcorr_models.data.parallel import to_stderr
from dcorr_models.errors import DataError

__all__ = ["ClassFolders"]

_Rows = npt.NDArray[np.int64]


class ClassFolders(ImageFolder):
    """A folder with a folder for each class, for methods of class and content codes.

    KTH's frames by person, RaFD by expression, shoes and their edges, faces by identity. The
    images lie in the folder of their class or deeper. They are cut at the centre and resized, and
    prepared once into a file in `cache`. A class needs two training images.

    Args:
        folder: Folder of the classes; or of the folders `train`, `valid` and `test`, which hold
            the classes' folders and decide the splits.
        size: Side of the images in pixels.
        channels: 3 for colour, 1 for grey.
        test_classes: How many classes test with all of their images, drawn at random, or which, by
            their folders' names; 0 for held-out images of all classes.
        valid: Share of the training classes' images that validates.
        test: Share of the images that tests, where no whole classes do.
        seed: Of the choices at random, from 0 to 2**32 - 1.
        contents: A CSV file whose first column names the images, relative to the folder; a column
            `content` says by any word which content each shows, all other columns are numbers,
            the targets. A relative path is looked for in the folder first.
        content_pattern: A regular expression that finds the content in a file's path below the
            folder of its class; its groups together, or all that it matches, are the content.
        skip_single: Leave out classes with one image, and say how many, instead of stopping.
        signed: Whether the float images are in [-1, 1] or in [0, 1].
        skip_corrupt: Leave out image files that are broken, and say how many, instead of stopping.
        cache: Folder for the decoded images; a folder in the user's cache by default.
    """

    name: ClassVar[str] = "class folders"

    def __init__(
        self,
        folder: str | Path,
        size: int = 64,
        channels: Literal[1, 3] = 3,
        test_classes: int | list[str] = 0,
        valid: float = 0.0,
        test: float = 0.1,
        seed: int = 0,
        contents: str | Path | None = None,
        content_pattern: str | None = None,
        skip_single: bool = False,
        signed: bool = False,
        skip_corrupt: bool = False,
        cache: str | Path | None = None,
    ) -> None:
        super().__init__(
            folder,
            size=size,
            channels=channels,
            valid=valid,
            test=test,
            seed=seed,
            signed=signed,
            skip_corrupt=skip_corrupt,
            cache=cache,
        )
        check_shares(valid, test, test_classes, seed)
        if contents is not None and content_pattern is not None:
            raise DataError("contents and content_pattern both say the contents: leave one out")
        try:
            self.pattern = None if content_pattern is None else re.compile(content_pattern)
        except re.error as error:
            raise DataError(
                f"content_pattern {content_pattern!r} is no regular expression: {error}"
            ) from error
        self.test_classes = test_classes
        self.contents = None if contents is None else Path(contents)
        self.skip_single = skip_single

    @property
    def content_names(self) -> tuple[str, ...]:
        """Names of the contents in the order of their numbers; none if they are not known."""
        return self._known.names

    @property
    def target_names(self) -> tuple[str, ...]:
        """Names of the columns of `targets`; none if they are not known."""
        return self._known.target_names

    @cached_property
    def _table(self) -> LabelTable:
        if not self.folder.is_dir():
            raise DataError(f"there is no folder of classes {self.folder}")
        table = table_of_folders(self.folder)
        counts = np.bincount(table.labels.astype(np.int64))
        if not self.skip_single or counts.min() > 1:
            return table
        kept = np.flatnonzero(counts[table.labels.astype(np.int64)] > 1)
        names = [name for name, count in zip(table.names, counts, strict=True) if count > 1]
        if not names:
            raise DataError(f"{self.folder}: no class has two images")
        left_out = a_few([table.names[number] for number in np.flatnonzero(counts == 1)])
        to_stderr(f"{self.folder}: left out the classes with a single image: {left_out} "
                  f"({len(counts) - len(names)} in all)")  # fmt: skip
        _, labels = np.unique(table.labels[kept], return_inverse=True)
        return LabelTable(
            tuple(table.files[row] for row in kept),
            tuple(names),
            labels.astype(np.int64),
            None if table.splits is None else table.splits[kept],
        )

    @cached_property
    def _known(self) -> Contents:
        files = self._table.files
        if self.pattern is not None:
            # below the folder of the class, whose name must not pass for a content
            above = 1 if self._table.splits is None else 2
            return contents_from_names(
                ["/".join(Path(file).parts[above:]) for file in files], self.pattern
            )
        if self.contents is None:
            return Contents()
        inside = self.folder / self.contents
        return read_contents(inside if inside.exists() else self.contents, files)

    def _parts(self) -> list[_Rows]:
        labels = self._table.labels.astype(np.int64)
        if self._table.splits is not None:
            if self.test_classes not in (0, []):
                raise DataError(
                    f"{self.folder} has folders of splits, which say what tests: leave "
                    "test_classes out"
                )
            parts = [np.flatnonzero(self._table.splits == number) for number in range(3)]
        else:
            valid, test = self.shares
            held_out = held_out_classes(self.test_classes, self._table.names, self.seed)
            parts = class_splits(labels, held_out, valid=valid, test=test, seed=self.seed)
        require_two_images(
            labels[parts[0]],
            self._table.names,
            place=str(self.folder),
            way_out="add images, hold out fewer, or leave out classes with one image with "
            "--data.skip_single true",
        )
        return parts

    def _cut(self, cached: CachedImages, parts: list[_Rows]) -> Splits:
        known = self._known
        return cut_splits(
            cached,
            parts,
            self._labels(),
            self.value_range,
            content=None if known.content is None else torch.from_numpy(known.content),
            targets=None if known.targets is None else torch.from_numpy(known.targets),
        )
