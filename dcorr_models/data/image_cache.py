"""Decoded images in one file of bytes on disk, mapped into memory instead of read.

Decoding a JPEG or drawing a face costs milliseconds; taking it from a mapped file costs the copy
of its bytes. The operating system keeps the file's pages in memory while there is room.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dcorr_models.errors import DataError

__all__ = ["CachedImages", "cache_path", "cached_images", "default_cache_folder"]

Bytes = npt.NDArray[np.uint8]
_UNFINISHED = ".images-"
MOVED_AT_ONCE = 4096  # images; a copy of them all may not fit into memory


@dataclass(frozen=True)
class CachedImages:
    """What a cache holds.

    Args:
        images: uint8 array of shape (N - S, C, H, W) over the mapped file, in order; writing to it
            does not change the file.
        skipped: The numbers of the S images of N that could not be made, ascending.
    """

    images: Bytes
    skipped: tuple[int, ...]


def default_cache_folder() -> Path:
    """`dcorr_models` in the user's cache folder: `$XDG_CACHE_HOME`, `~/.cache`, or the system's."""
    if os.name == "nt":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "dcorr_models"


def cache_path(folder: Path, name: str, settings: Mapping[str, Any]) -> Path:
    """The file for these settings: another setting is another name, so no file can be stale.

    Args:
        folder: Folder of the cache.
        name: First part of the file's name.
        settings: All that decides the content, as values that JSON can hold.

    Returns:
        The path of a `.npy` file, which need not exist.
    """
    text = json.dumps(settings, sort_keys=True)
    return folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.npy"


def cached_images(
    path: Path, shape: tuple[int, int, int, int], fill: Callable[[Bytes], Sequence[int]]
) -> CachedImages:
    """Map the images in a file, which is made first if it is missing or broken.

    The file is filled under a temporary name and renamed when it is complete, so that an
    interruption leaves no half file. A second process waits for the first and takes its file;
    where the file system has no locks both make it, with the same bytes.

    Args:
        path: The `.npy` file, see `cache_path`.
        shape: Shape (N, C, H, W): N with those that turn out to be missing.
        fill: Writes the images into an array of this shape, and returns the numbers of those that
            it could not write.

    Returns:
        The images without gaps, and the numbers of those left out.

    Raises:
        DataError: If the folder cannot be written or the disk has too little room.
    """
    found = _map(path, shape)
    if found is not None:
        return found
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone_in(path.parent):
            found = _map(path, shape)  # another process may have made it meanwhile
            if found is None:
                _make(path, shape, fill)
    except OSError as error:
        raise DataError(
            f"cannot write the images to {path}: {error.strerror or error}; "
            "name another folder with --data.cache"
        ) from error
    made = found or _map(path, shape)
    if made is None:
        raise DataError(f"{path} was written and cannot be read back; is the disk sound?")
    return made


def _make(
    path: Path, shape: tuple[int, int, int, int], fill: Callable[[Bytes], Sequence[int]]
) -> None:
    _check_room(path.parent, int(np.prod(shape)))
    with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=path.parent) as temporary:
        unfinished = Path(temporary) / path.name
        images = np.lib.format.open_memmap(
            unfinished, mode="w+", dtype=np.uint8, shape=shape, version=(1, 0)
        )
        _reserve(unfinished)
        skipped = sorted(int(row) for row in fill(images))
        _close_gaps(images, skipped)
        images.flush()
        del images  # Windows renames no file that is still mapped
        # the list first: an interruption in between leaves a list without images, never the reverse
        _skipped_path(path).unlink(missing_ok=True)
        if skipped:
            listed = Path(temporary) / "skipped.json"
            listed.write_text(json.dumps(skipped))
            listed.replace(_skipped_path(path))
        unfinished.replace(path)


def _reserve(path: Path) -> None:
    """Take the file's room on the disk: writing into a mapped file of a full disk is fatal."""
    if not hasattr(os, "posix_fallocate"):
        return
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            # whatever else it is, the file system does not know how
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise


def _close_gaps(images: Bytes, skipped: Sequence[int]) -> None:
    if not skipped:
        return
    kept = np.delete(np.arange(len(images)), skipped)
    for first in range(0, len(kept), MOVED_AT_ONCE):
        rows = kept[first : first + MOVED_AT_ONCE]
        images[first : first + len(rows)] = images[rows]


def _skipped_path(path: Path) -> Path:
    return path.with_suffix(".skipped.json")


def _map(path: Path, shape: tuple[int, ...]) -> CachedImages | None:
    """The mapped file, or None where there is none, a broken one, or one of something else."""
    try:
        # copy on write, since torch warns about arrays that cannot be written
        images = np.load(path, mmap_mode="c", allow_pickle=False)
        listed = _skipped_path(path)
        skipped = json.loads(listed.read_text()) if listed.exists() else []
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None
    if not isinstance(skipped, list) or not all(row in range(shape[0]) for row in skipped):
        return None
    if not isinstance(images, np.ndarray) or images.shape != shape or images.dtype != np.uint8:
        return None
    if not images.flags.c_contiguous:
        return None
    return CachedImages(images[: len(images) - len(skipped)], tuple(skipped))


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Waits until no other process makes images in the folder; removes what a killed one left."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            yield
            return
        for left in folder.glob(_UNFINISHED + "*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        os.close(descriptor)


def _check_room(folder: Path, wanted: int) -> None:
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise DataError(
            f"the images need {wanted / 1e6:,.1f} MB in {folder}, which has {free / 1e6:,.1f} MB "
            "free; name another folder with --data.cache"
        )
