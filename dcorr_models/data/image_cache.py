"""Decoded images in one file of bytes on disk, mapped into memory instead of read.

Decoding a JPEG or drawing a face costs milliseconds; taking it from a mapped file costs the copy
of its bytes. The operating system keeps the file's pages in memory while there is room.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dcorr_models.errors import DataError

__all__ = ["cache_path", "cached_images", "default_cache_folder"]

_Bytes = npt.NDArray[np.uint8]


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
    path: Path, shape: tuple[int, int, int, int], fill: Callable[[_Bytes], None]
) -> _Bytes:
    """Map the images in a file, which is made first if it is missing or broken.

    The file is filled under a temporary name and renamed when it is complete: an interruption
    leaves no half file, and of two processes that make it at once the later one wins, with the
    same bytes.

    Args:
        path: The `.npy` file, see `cache_path`.
        shape: Shape (N, C, H, W) that it must have.
        fill: Writes the images into an array of this shape.

    Returns:
        uint8 array of this shape over the mapped file; writing to it does not change the file.

    Raises:
        DataError: If the folder cannot be written or the disk has too little room.
    """
    found = _map(path, shape)
    if found is not None:
        return found
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _check_room(path.parent, int(np.prod(shape)))
        with tempfile.TemporaryDirectory(prefix=".images-", dir=path.parent) as temporary:
            unfinished = Path(temporary) / path.name
            images = np.lib.format.open_memmap(
                unfinished, mode="w+", dtype=np.uint8, shape=shape, version=(1, 0)
            )
            fill(images)
            images.flush()
            del images  # Windows renames no file that is still mapped
            unfinished.replace(path)
    except OSError as error:
        raise DataError(
            f"cannot write the images to {path}: {error.strerror or error}; "
            "name another folder with --data.cache"
        ) from error
    made = _map(path, shape)
    if made is None:
        raise DataError(f"{path} was written and cannot be read back; is the disk sound?")
    return made


def _map(path: Path, shape: tuple[int, ...]) -> _Bytes | None:
    """The mapped file, or None where there is none, a broken one, or one of something else."""
    try:
        # copy on write, since torch warns about arrays that cannot be written
        images = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if not isinstance(images, np.ndarray) or images.shape != shape or images.dtype != np.uint8:
        return None
    return images if images.flags.c_contiguous else None


def _check_room(folder: Path, wanted: int) -> None:
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise DataError(
            f"the images need {wanted / 1e9:.1f} GB in {folder}, which has {free / 1e9:.1f} GB "
            "free; name another folder with --data.cache"
        )
