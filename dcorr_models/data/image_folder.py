"""Your own images: a folder with a table of attributes, or with a folder for each class."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch

from dcorr_models.data.attribute_names import chosen_attributes
from dcorr_models.data.base import DataSource, Splits
from dcorr_models.data.image_cache import Bytes, CachedImages, default_cache_folder
from dcorr_models.data.image_files import (
    FolderFiles,
    a_few,
    cut_splits,
    decoded_images,
    find_broken,
)
from dcorr_models.data.label_table import SPLITS, LabelTable, read_label_table
from dcorr_models.data.parallel import to_stderr
from dcorr_models.data.splitting import check_seed, shuffled_order, stratified_order
from dcorr_models.errors import DataError, UserError
from dcorr_models.pictures import read_image_file, to_bytes

__all__ = ["ImageFolder", "table_of_folders"]

_Rows = npt.NDArray[np.int64]
_ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


class ImageFolder(DataSource):
    """Any folder of images, cut at the centre and resized to size x size.

    With `csv` the labels come from a table. Its first column names the files, relative to the
    folder; a column `split` may say train, valid or test; a column `class` names a class, or all
    other columns are attributes of 0 and 1, or of -1 and 1. Files that it does not name are left
    out. Without `csv` each folder in the folder is a class and holds its images, itself within
    `train`, `valid` and `test` if the folder has those.

    The images are prepared as `dcorr-models edit` prepares your own, once, into a file of bytes in
    `cache`, which is mapped into memory from then on.

    Args:
        folder: Folder of the images.
        csv: The table; a relative path is looked for in the folder first.
        size: Side of the images in pixels.
        channels: 3 for colour, 1 for grey.
        attributes: Which of the table's attributes are the labels; all by default.
        valid: Share of the images that validate, where neither table nor folders say which.
        test: Share of the images that test, likewise.
        seed: Of the shares, from 0 to 2**32 - 1. Classes have the same shares.
        signed: Whether the float images are in [-1, 1] or in [0, 1].
        skip_corrupt: Leave out image files that are broken, and say how many, instead of stopping.
        cache: Folder for the decoded images; a folder in the user's cache by default.
    """

    name: ClassVar[str] = "image folder"

    def __init__(
        self,
        folder: str | Path,
        csv: str | Path | None = None,
        size: int = 64,
        channels: Literal[1, 3] = 3,
        attributes: list[str] | None = None,
        valid: float = 0.1,
        test: float = 0.1,
        seed: int = 0,
        signed: bool = True,
        skip_corrupt: bool = False,
        cache: str | Path | None = None,
    ) -> None:
        if size < 1 or channels not in (1, 3):
            raise DataError(
                f"size must be 1 or more and channels 1 or 3, got {size} and {channels}"
            )
        if not (valid >= 0 and test >= 0 and valid + test < 1):
            raise DataError(
                "valid and test must be shares that leave something to train on, "
                f"got {valid} and {test}"
            )
        check_seed(seed)
        self.folder = Path(folder)
        self.csv = None if csv is None else Path(csv)
        self.image_shape = (channels, size, size)
        self.attributes = attributes
        self.shares = (valid, test)
        self.seed = seed
        self.value_range = (-1.0, 1.0) if signed else (0.0, 1.0)
        self.skip_corrupt = skip_corrupt
        self.cache = default_cache_folder() if cache is None else Path(cache)

    @property
    def label_names(self) -> tuple[str, ...]:  # type: ignore[override]  # known to the table alone
        """Names of the attributes or classes, read from the table or the folders."""
        if self.multilabel:
            return chosen_attributes(self.attributes, self._table.names, str(self._path))
        return self._table.names

    @property
    def multilabel(self) -> bool:  # type: ignore[override]  # known to the table alone
        """Whether the table has attributes."""
        return self._table.labels.ndim == 2

    def splits(self) -> Splits:
        """Map the prepared images, which are prepared first if they are not there.

        Raises:
            DataError: If the folder or the table is missing, or a file or line is wrong; the
                message names it.
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
            raise DataError(f"{self.folder} is not downloaded; leave the mirror {mirror} out")
        splits = self._splits(say)
        say(
            f"{self.folder}: {' + '.join(str(len(s)) for s in splits)} images ready in {self.cache}"
        )

    def check_files(self, *, say: Callable[[str], None] = print) -> None:
        """Decode every image file and name those that are broken.

        Args:
            say: Takes each line of progress, and one for each broken file.

        Raises:
            DataError: If a file is missing or broken.
        """
        files = self._files(np.arange(len(self._table.files)))
        find_broken(files, lambda row: self._read(files, row), name=str(self.folder), say=say)

    def _splits(self, say: Callable[[str], None]) -> Splits:
        parts = self._parts()
        # in the order of the splits, so that each of them is one stretch of the mapped file
        files = self._files(np.concatenate(parts))
        cached = decoded_images(
            files,
            lambda row: self._read(files, row),
            self.image_shape,
            name="images",
            settings={"shape": self.image_shape, "recipe": 1},
            cache=self.cache,
            skip_corrupt=self.skip_corrupt,
            say=say,
        )
        return self._cut(cached, parts)

    def _cut(self, cached: CachedImages, parts: list[_Rows]) -> Splits:
        """The splits of the prepared images, with all that is known of them."""
        return cut_splits(cached, parts, self._labels(), self.value_range)

    @cached_property
    def _table(self) -> LabelTable:
        if not self.folder.is_dir():
            raise DataError(f"there is no folder of images {self.folder}")
        table = (
            table_of_folders(self.folder, otherwise=", or a table named with --data.csv")
            if self.csv is None
            else read_label_table(self._path)
        )
        if table.labels.ndim == 1 and self.attributes is not None:
            raise DataError(f"attributes are chosen, but {self.folder} has classes: leave them out")
        return table

    @property
    def _path(self) -> Path:
        assert self.csv is not None
        inside = self.folder / self.csv
        return inside if inside.exists() else self.csv

    def _parts(self) -> list[_Rows]:
        """The rows of the table that train, validate and test."""
        if self._table.splits is not None:
            return [np.flatnonzero(self._table.splits == number) for number in range(3)]
        count = len(self._table.files)
        order = (
            shuffled_order(count, self.seed)
            if self.multilabel
            else stratified_order(self._table.labels, self.seed)
        )
        valid, test = (int(share * count + 0.5) for share in self.shares)
        return [order[valid + test :], order[test : valid + test], order[:test]]

    def _labels(self) -> torch.Tensor:
        if not self.multilabel:
            return torch.from_numpy(self._table.labels)
        columns = [self._table.names.index(name) for name in self.label_names]
        return torch.from_numpy(self._table.labels[:, columns])

    def _files(self, rows: _Rows) -> FolderFiles:
        files = FolderFiles(self.folder, [self._table.files[row] for row in rows])
        files.require_all(f"put them there, or take their lines out of {self.csv}")
        return files

    def _read(self, files: FolderFiles, row: int) -> Bytes:
        path = self.folder / files.names[row]
        try:
            image = read_image_file(path, self.image_shape)
        except UserError as error:
            raise DataError(str(error).removeprefix(f"{path} ")) from error
        return to_bytes(image).transpose(2, 0, 1)


def table_of_folders(folder: Path, *, otherwise: str = "") -> LabelTable:
    """The table that the folders spell: a class each, itself within a split or not.

    Args:
        folder: Holds a folder for each class, or the folders train, valid and test that do.
        otherwise: What else could be done where the folder is another, for the message.

    Returns:
        The images, their classes, and their splits if there are folders of splits.

    Raises:
        DataError: If there are splits beside classes, or a class has no image.
    """
    outer = _folders(folder)
    others = [path.name for path in outer if path.name not in SPLITS]
    in_splits = bool(outer) and not others
    if others and any(path.name == "train" for path in outer):
        raise DataError(
            f"{folder} has the folder train, and {a_few(others)} beside it: keep splits alone in "
            f"it ({', '.join(SPLITS)}), or classes alone"
        )
    classes = [inner for path in outer for inner in _folders(path)] if in_splits else outer
    files, labels, splits = [], [], []
    names = sorted({path.name for path in classes})
    for path in classes:
        images = sorted(p for p in path.rglob("*") if p.suffix.lower() in _ENDINGS and p.is_file())
        files += [str(image.relative_to(folder)) for image in images]
        labels += [names.index(path.name)] * len(images)
        splits += [SPLITS[path.parent.name] if in_splits else 0] * len(images)
    empty = sorted(set(range(len(names))) - set(labels))
    if not files or empty:
        what = f"the class {names[empty[0]]} has no image" if empty else "there is no image"
        raise DataError(
            f"{folder}: {what}; wanted a folder for each class with images in it "
            f"({', '.join(_ENDINGS)}){otherwise}"
        )
    for name in files:
        if not name.isascii() and name != name.encode(errors="replace").decode():
            raise DataError(f"{folder}: the name {name!a} is not UTF-8: rename it")
    parts = np.array(splits, dtype=np.int64) if in_splits else None
    return LabelTable(tuple(files), tuple(names), np.array(labels, dtype=np.int64), parts)


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
