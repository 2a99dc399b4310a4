"""IDX, the file format of MNIST and its relatives: a header of big-endian sizes, then the bytes."""

from __future__ import annotations

import hashlib
import math
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dcorr_models.data.files import open_content
from dcorr_models.errors import DataError

__all__ = ["find_idx", "read_idx"]

_UNSIGNED_BYTE = 0x08


def read_idx(path: Path, *, ndim: int, sha256: str | None = None) -> npt.NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, gzipped or not.

    The format: two zero bytes, a byte for the element type (8 is unsigned byte), a byte for the
    number of dimensions, a big-endian 32-bit size for each of them, the elements in C order.

    Args:
        path: The file.
        ndim: The number of dimensions that it must have: 3 for images, 1 for labels.
        sha256: SHA-256 of the unzipped content that it must have; any content by default.

    Returns:
        uint8 array of the shape that the header states.

    Raises:
        DataError: If the file cannot be read, is no IDX file of unsigned bytes, has another
            number of dimensions, is too short or too long, or has another checksum.
    """
    with open_content(path) as stream:
        content = stream.read()
    shape = _read_header(path, content, ndim)
    start, wanted = 4 + 4 * ndim, math.prod(shape)
    found = len(content) - start
    if found < wanted:
        raise DataError(
            f"{path} is truncated: its header promises {_times(shape)} = {wanted} bytes, "
            f"{found} are there; fetch it again"
        )
    if found > wanted:
        raise DataError(
            f"{path} has {found - wanted} bytes too many after its {_times(shape)} elements; "
            "fetch it again"
        )
    if sha256 is not None and (digest := hashlib.sha256(content).hexdigest()) != sha256:
        raise DataError(
            f"{path} fails its checksum: SHA-256 {digest[:12]}... of the content, wanted "
            f"{sha256[:12]}...; fetch it again, or set verify to false if it is data of your own"
        )
    # a copy, since an array over immutable bytes cannot become a tensor without a warning
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def find_idx(folder: Path, stem: str) -> Path | None:
    """Find an IDX file under any of the names that it goes by.

    Args:
        folder: Where to look.
        stem: The name with a hyphen, such as `train-images-idx3-ubyte`; `train-images.idx3-ubyte`
            and both names with `.gz` are found as well. Unzipped files come first.

    Returns:
        The path, or None if there is none.
    """
    dotted = stem.replace("-idx", ".idx")
    names = (stem, dotted, f"{stem}.gz", f"{dotted}.gz")
    return next((path for name in names if (path := folder / name).exists()), None)


def _read_header(path: Path, content: bytes, ndim: int) -> tuple[int, ...]:
    if len(content) < 4 or content[:2] != b"\0\0":
        raise DataError(
            f"{path} is not an IDX file: it starts with {content[:4].hex(' ') or 'nothing'}, "
            "wanted 00 00 08 and the number of dimensions; fetch it again"
        )
    if content[2] != _UNSIGNED_BYTE:
        raise DataError(
            f"{path} holds elements of IDX type 0x{content[2]:02x}, wanted 0x08, unsigned bytes"
        )
    if content[3] != ndim:
        raise DataError(
            f"{path} has {content[3]} dimensions, wanted {ndim}; are images and labels swapped?"
        )
    if len(content) < 4 + 4 * ndim:
        raise DataError(f"{path} is truncated: its header ends early; fetch it again")
    return struct.unpack_from(f">{ndim}I", content, 4)


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
