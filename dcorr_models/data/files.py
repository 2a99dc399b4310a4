"""Reading files that may or may not be gzipped, with errors a person can act on."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dcorr_models.errors import DataError

__all__ = ["content_sha256", "open_content"]

_GZIP_MAGIC = b"\x1f\x8b"


@contextmanager
def open_content(path: Path) -> Iterator[io.BufferedIOBase]:
    """Open a file for reading, unzipping on the way where it is gzipped.

    The first two bytes decide, not the name: files lose and gain `.gz` on their way.

    Args:
        path: The file.

    Yields:
        A binary stream of the content.

    Raises:
        DataError: If the file cannot be read, also while the caller reads from the stream.
    """
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == _GZIP_MAGIC
            file.seek(0)
            if zipped:
                with gzip.GzipFile(fileobj=file) as content:
                    yield content
            else:
                yield file
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is a broken gzip file ({error}); fetch it again") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def content_sha256(path: Path) -> str:
    """SHA-256 of a file's content, unzipped where it is gzipped.

    The same bytes are packed differently by every mirror and distribution, so a checksum of
    the gzip file would refuse good data.

    Args:
        path: The file.

    Returns:
        64 hexadecimal digits.

    Raises:
        DataError: If the file cannot be read.
    """
    with open_content(path) as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
