"""NORB's binary matrix files: a magic number, the sizes, then the elements, little-endian."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dcorr_models.data.files import open_content
from dcorr_models.errors import DataError

__all__ = ["find_matrix", "open_matrix", "read_matrix", "read_rows"]

# of the six element types of the format, those that the release has
_MAGIC: dict[str, int] = {"uint8": 0x1E3D4C55, "int32": 0x1E3D4C54}
_KINDS = {
    0x1E3D4C51: "single precision",
    0x1E3D4C52: "packed",
    0x1E3D4C53: "double precision",
    0x1E3D4C54: "integers",
    0x1E3D4C55: "bytes",
    0x1E3D4C56: "short integers",
}


@contextmanager
def open_matrix(
    path: Path, dtype: str, shape: tuple[int | None, ...]
) -> Iterator[tuple[io.BufferedIOBase, tuple[int, ...]]]:
    """Open a file, gzipped or not, and read its header.

    The header: a magic number that says the element type, the number of dimensions, then a size
    for each of them, and ones up to three where there are fewer, all of four bytes.

    Args:
        path: The file.
        dtype: "uint8" or "int32".
        shape: The sizes that it must have; None for any.

    Yields:
        The stream at the first element, and the sizes.

    Raises:
        DataError: If the file cannot be read, or is not such a matrix.
    """
    with open_content(path) as stream:
        head = stream.read(8)
        if len(head) < 8:
            raise DataError(f"{path} is truncated: {len(head)} bytes are no header; fetch it again")
        magic, ndim = struct.unpack("<Ii", head)
        if magic != _MAGIC[dtype]:
            found = _KINDS.get(magic)
            what = f"a matrix of {found}" if found else "not one of NORB's binary matrices"
            raise DataError(
                f"{path} is {what}: its magic number is {magic:08X}, wanted {_MAGIC[dtype]:08X} "
                f"({_KINDS[_MAGIC[dtype]]}); is it the right file?"
            )
        rest = stream.read(4 * max(3, ndim)) if 0 < ndim <= 8 else b""
        sizes = struct.unpack(f"<{len(rest) // 4}i", rest[: len(rest) // 4 * 4])[: max(0, ndim)]
        fits = len(sizes) == len(shape) == ndim and all(
            want in (None, size) and size > 0 for size, want in zip(sizes, shape, strict=True)
        )
        if not fits:
            raise DataError(
                f"{path} has {ndim} dimensions of sizes {_times(sizes)}, wanted {_times(shape)}; "
                "fetch it again"
            )
        yield stream, sizes


def read_rows(path: Path, stream: io.BufferedIOBase, count: int, row: int) -> bytearray:
    """The next rows of an open matrix of bytes.

    Args:
        path: The file, for the message.
        stream: From `open_matrix`.
        count: How many rows.
        row: Bytes of each.

    Returns:
        `count * row` bytes.

    Raises:
        DataError: If the file ends before.
    """
    content = bytearray()
    while len(content) < count * row:
        # a gzip stream may give less than was asked for
        more = stream.read(count * row - len(content))
        if not more:
            raise DataError(
                f"{path} is truncated: its header promises {count * row - len(content)} bytes "
                "more; fetch it again"
            )
        content += more
    return content


def read_matrix(path: Path, shape: tuple[int | None, ...]) -> npt.NDArray[np.int64]:
    """A whole matrix of integers.

    Args:
        path: The file.
        shape: The sizes that it must have; None for any.

    Returns:
        int64 array of the shape that the header states.

    Raises:
        DataError: If the file is not such a matrix, or too short or too long.
    """
    with open_matrix(path, "int32", shape) as (stream, sizes):
        content = read_rows(path, stream, 1, 4 * math.prod(sizes))
        check_end(path, stream)
    return np.frombuffer(content, "<i4").reshape(sizes).astype(np.int64)


def check_end(path: Path, stream: io.BufferedIOBase) -> None:
    """Refuse a file with bytes after its last element.

    Raises:
        DataError: If there are.
    """
    if stream.read(1):
        raise DataError(f"{path} has bytes after its last element; fetch it again")


def find_matrix(folder: Path, name: str) -> Path | None:
    """The file of this name, or of this name with `.gz`, or None."""
    return next((path for n in (name, f"{name}.gz") if (path := folder / n).is_file()), None)


def _times(sizes: tuple[int | None, ...]) -> str:
    return " x ".join("any" if size is None else str(size) for size in sizes) or "none"
