"""CIFAR-10's six batches in both official formats, with few images."""

from __future__ import annotations

import io
import pickle
import struct
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

STEMS = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5")


def images_of(batch: int, images: int) -> tuple[np.ndarray, list[int]]:
    """Image i of a batch is `10 * batch + i` in the red plane, its channel in the others."""
    pixels = np.zeros((images, 3, 32, 32), np.uint8)
    pixels[:, 0] = (10 * batch + np.arange(images))[:, None, None]
    pixels[:, 0, 0, 1] = 201  # row 0, column 1: rows come before columns
    pixels[:, 1], pixels[:, 2] = 101, 102
    return pixels, [i % 10 for i in range(images)]


def binary_batch(batch: int, images: int) -> bytes:
    pixels, labels = images_of(batch, images)
    return b"".join(
        bytes([k]) + p.tobytes() for k, p in zip(labels, pixels.reshape(images, -1), strict=True)
    )


def python_batch(batch: int, images: int, **changes: Any) -> bytes:
    """As Python 2 wrote it: strings of bytes, protocol 2."""
    pixels, labels = images_of(batch, images)
    content = {
        "batch_label": "training batch",
        "labels": labels,
        "data": pixels.reshape(images, -1),
        "filenames": [f"{i}.png" for i in range(images)],
    }
    buffer = io.BytesIO()
    _Python2(buffer, protocol=2).dump(content | changes)
    # the module that NumPy 1 names
    return buffer.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


class _Python2(pickle._Pickler):  # the one in pure Python, whose table can be changed
    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def _string(self, value: bytes | str) -> None:
        content = value.encode("latin1") if isinstance(value, str) else value
        self.write(b"T" + struct.pack("<i", len(content)) + content)  # BINSTRING
        self.memoize(value)

    dispatch[bytes] = dispatch[str] = _string


def write_cifar(folder: Path, *, binary: bool, images: int = 10) -> Path:
    """The folder that an archive unpacks to, with so many images a batch; returns `folder`."""
    inner = folder / ("cifar-10-batches-bin" if binary else "cifar-10-batches-py")
    inner.mkdir(parents=True)
    for batch, stem in enumerate((*STEMS, "test_batch")):
        content = (binary_batch if binary else python_batch)(batch, images)
        (inner / (f"{stem}.bin" if binary else stem)).write_bytes(content)
    return folder
