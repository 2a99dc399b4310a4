"""Small files in MNIST's exact format, written from the format's description."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np

STEMS = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def idx_bytes(array: np.ndarray) -> bytes:
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def packed(content: bytes, level: int = 9) -> bytes:
    """Gzipped without the time of day: test names are made of such bytes, and must never change."""
    return gzip.compress(content, level, mtime=0)


def numbered_digits(start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images with their own number in the first two pixels, and labels that follow from it."""
    number = np.arange(start, start + count)
    images = np.zeros((count, 28, 28), np.uint8)
    images[:, 0, 0], images[:, 0, 1] = number // 256, number % 256
    images[:, 5:20, 5:20] = (number % 7 * 30)[:, None, None]
    return images, (number % 10).astype(np.uint8)


def numbers_of(images) -> list[int]:
    return (images[:, 0, 0, 0].long() * 256 + images[:, 0, 0, 1].long()).tolist()


def write_folder(folder: Path, train: int = 60, test: int = 10, *, zipped: bool = True) -> Path:
    """The four files, training images numbered from 0 on, test images after them."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = (*numbered_digits(0, train), *numbered_digits(train, test))
    for stem, array in zip(STEMS, arrays, strict=True):
        content = idx_bytes(array)
        name = f"{stem}.gz" if zipped else stem
        (folder / name).write_bytes(packed(content) if zipped else content)
    return folder
