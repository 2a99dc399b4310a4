"""Many image files, in a folder or in a zip archive, decoded into a cache by all processors."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dcorr_models.data.base import LabelledImages, Splits
from dcorr_models.data.image_cache import Bytes, CachedImages, cache_path, cached_images
from dcorr_models.data.parallel import announced, for_each_row
from dcorr_models.errors import DataError, UserError
from dcorr_models.pictures import load_picture

__all__ = [
    "FolderFiles",
    "ImageFiles",
    "ZippedFiles",
    "a_few",
    "cut_splits",
    "decoded_images",
    "find_broken",
    "open_picture",
]

# what reading a broken file from a disk or an archive raises
BROKEN = (OSError, ValueError, EOFError, struct.error, zlib.error, zipfile.BadZipFile)


class ImageFiles(ABC):
    """Files that may hold images, in a fixed order.

    Args:
        place: The folder or archive, for messages.
        names: The files' names.
    """

    def __init__(self, place: Path, names: Sequence[str]) -> None:
        self.place = place
        self.names = tuple(names)

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def read(self, row: int) -> bytes:
        """The content of a file."""

    @abstractmethod
    def missing(self) -> list[str]:
        """The names that are not there."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Changes when a file is exchanged, without reading the files."""

    def require_all(self, way_out: str) -> None:
        """Refuse to go on without files that should be there.

        Raises:
            DataError: If files are missing: how many, and the first of them.
        """
        missing = self.missing()
        if missing:
            raise DataError(
                f"{self.place} lacks {len(missing)} of {len(self)} images "
                f"({a_few(sorted(missing))}); {way_out}"
            )


class FolderFiles(ImageFiles):
    """Files in a folder; a name may have folders in it."""

    def read(self, row: int) -> bytes:
        """The content of a file."""
        return (self.place / self.names[row]).read_bytes()

    def missing(self) -> list[str]:
        """The names that are not in the folder."""
        folders = {str(Path(name).parent) for name in self.names}
        # one listing of a folder instead of a question for each of 200,000 files
        there = {
            os.path.normpath(Path(folder, entry.name))
            for folder in folders
            if (self.place / folder).is_dir()
            for entry in os.scandir(self.place / folder)
        }
        return [name for name in self.names if os.path.normpath(name) not in there]

    def fingerprint(self) -> str:
        """Of names, sizes and times of change."""
        digest = hashlib.sha256()
        for name in self.names:
            stat = (self.place / name).stat()
            digest.update(f"{name}:{stat.st_size}:{stat.st_mtime_ns};".encode())
        return digest.hexdigest()


class ZippedFiles(ImageFiles):
    """Files in a zip archive, which is never unpacked; folders in the archive do not count."""

    def __init__(self, place: Path, names: Sequence[str]) -> None:
        super().__init__(place, names)
        try:
            with zipfile.ZipFile(place) as archive:
                members = archive.infolist()
        except (OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{place} is not a whole zip archive ({error}); fetch it again") from (
                error
            )
        self._members = {Path(member.filename).name: member for member in members}
        self._archives: dict[int, zipfile.ZipFile] = {}

    def read(self, row: int) -> bytes:
        """The content of a file, unzipped."""
        # an open archive has a position in its file, which processes must not share
        archive = self._archives.get(os.getpid())
        if archive is None:
            archive = self._archives[os.getpid()] = zipfile.ZipFile(self.place)
        try:
            return archive.read(self._members[self.names[row]])
        except RuntimeError as error:  # encrypted, or packed in a way that zipfile does not know
            raise DataError(f"cannot be unzipped: {error}") from error

    def missing(self) -> list[str]:
        """The names that are not in the archive."""
        return [name for name in self.names if name not in self._members]

    def fingerprint(self) -> str:
        """Of names, sizes and the archive's own checksums."""
        digest = hashlib.sha256()
        for name in self.names:
            member = self._members[name]
            digest.update(f"{name}:{member.CRC}:{member.file_size};".encode())
        return digest.hexdigest()


def decoded_images(
    files: ImageFiles,
    decode: Callable[[int], Bytes],
    shape: tuple[int, int, int],
    *,
    name: str,
    settings: Mapping[str, Any],
    cache: Path,
    skip_corrupt: bool,
    say: Callable[[str], None],
) -> CachedImages:
    """All images, decoded now or taken from the cache.

    Args:
        files: The files, none missing.
        decode: Makes the image of the file with this number; raises one of `BROKEN`, or a
            `UserError` whose message goes on after the file's name.
        shape: Channels, height and width of an image.
        name: Of the data set, for the cache's file and messages.
        settings: All that decides how a file is decoded.
        cache: Folder of the cache.
        skip_corrupt: Leave out broken files, and say how many, instead of refusing.
        say: Takes each line of progress.

    Returns:
        The images of the files that are whole.

    Raises:
        DataError: If a file is broken and `skip_corrupt` is not set.
    """
    way_out = (
        "find all that are broken with `dcorr-models prepare --verify`, and put whole files in "
        "their place or skip them with --data.skip_corrupt true"
    )
    path = cache_path(cache, name, {**settings, "files": files.fingerprint()})
    title = f"{name}, decoded once into {cache}"

    def fill(images: Bytes) -> list[int]:
        def decode_row(row: int) -> str | None:
            image, reason = _try(decode, row)
            if image is not None:
                # the processes share the mapped file: each writes its images where they belong
                images[row] = image
            return reason

        skipped = []
        results = for_each_row(decode_row, len(files))
        for row, reason in enumerate(announced(results, len(files), title, say)):
            if reason is not None and not skip_corrupt:
                raise DataError(f"{files.place}: {files.names[row]} {reason}; {way_out}")
            if reason is not None:
                skipped.append(row)
        return skipped

    cached = cached_images(path, (len(files), *shape), fill)
    if cached.skipped:
        broken = a_few([files.names[row] for row in cached.skipped])
        if not skip_corrupt:
            raise DataError(f"{files.place} has {len(cached.skipped)} broken images "
                            f"({broken}); {way_out}")  # fmt: skip
        say(f"{name}: skipped {len(cached.skipped)} of {len(files)} images, broken: {broken}")
    return cached


def find_broken(
    files: ImageFiles, decode: Callable[[int], Bytes], *, name: str, say: Callable[[str], None]
) -> None:
    """Decode every file and keep nothing.

    Args:
        files: The files, none missing.
        decode: As for `decoded_images`.
        name: Of the data set.
        say: Takes each line of progress, and a line for each broken file.

    Raises:
        DataError: If files are broken: how many, and the first of them.
    """
    results = for_each_row(lambda row: _try(decode, row)[1], len(files))
    broken = []
    for row, reason in enumerate(announced(results, len(files), f"{name}: checked", say)):
        if reason is not None:
            broken.append(files.names[row])
            say(f"{name}: {files.names[row]} {reason}")
    if broken:
        raise DataError(
            f"{files.place} has {len(broken)} broken images of {len(files)} ({a_few(broken)}); put "
            "whole files in their place, or skip them with --data.skip_corrupt true"
        )
    say(f"{name}: all {len(files)} images are whole")


def cut_splits(
    cached: CachedImages,
    parts: Sequence[npt.NDArray[np.int64]],
    labels: Tensor,
    value_range: tuple[float, float],
    *,
    content: Tensor | None = None,
    targets: Tensor | None = None,
    factors: Tensor | None = None,
) -> Splits:
    """The splits of images that lie in the cache one split after the other.

    Each split is one stretch of the mapped file, so that nothing is copied into memory.

    Args:
        cached: The images of `parts[0]`, then of `parts[1]`, then of `parts[2]`, less the skipped.
        parts: For each split the rows of `labels`.
        labels: Labels of all images.
        value_range: Of the float images.
        content: Contents of all images, where they are known.
        targets: Targets of all images, likewise.
        factors: Levels of the factors of all images, likewise.

    Returns:
        The splits without the skipped images.

    Raises:
        DataError: If no image is left to train on.
    """
    kept = np.ones(sum(map(len, parts)), dtype=bool)
    kept[list(cached.skipped)] = False
    keeps = np.split(kept, np.cumsum([len(part) for part in parts])[:-1])
    splits, first = [], 0
    for part, keep in zip(parts, keeps, strict=True):
        rows = part[keep]
        images = torch.from_numpy(cached.images[first : first + len(rows)])
        known = {
            name: None if values is None else values[rows]
            for name, values in (("content", content), ("targets", targets), ("factors", factors))
        }
        splits.append(LabelledImages(images, labels[rows], value_range=value_range, **known))
        first += len(rows)
    if not len(splits[0]):
        raise DataError("no image is left to train on")
    return Splits(*splits)


def open_picture(content: bytes) -> Any:
    """Open an image file's content with its pixels loaded, in RGB."""
    return load_picture(io.BytesIO(content)).convert("RGB")


def a_few(names: Sequence[str]) -> str:
    """The first three.

    Example:
        >>> a_few(["a", "b", "c", "d"])
        'a, b, c, ...'
    """
    return ", ".join([*names[:3], *(["..."] if len(names) > 3 else [])])


def _try(decode: Callable[[int], Bytes], row: int) -> tuple[Bytes | None, str | None]:
    try:
        return decode(row), None
    except UserError as error:
        return None, str(error)
    except BROKEN as error:
        return None, f"cannot be read: {' '.join(str(error).split()) or type(error).__name__}"
