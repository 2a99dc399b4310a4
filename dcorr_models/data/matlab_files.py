"""Variables out of MATLAB files, read by scipy."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

from dcorr_models.errors import DataError

__all__ = ["read_matlab", "scipy_io"]

# what scipy raises about a broken or foreign file, beside its MatReadError
_BROKEN = (OSError, ValueError, TypeError, KeyError, EOFError, struct.error, zlib.error)


def read_matlab(path: Path, variable: str, *, expected: str, **options: Any) -> Any:
    """One variable of a file.

    Args:
        path: The file.
        variable: Its name.
        expected: What the file should be, for the message.
        options: Of `scipy.io.loadmat`.

    Returns:
        A NumPy array.

    Raises:
        DataError: scipy or the variable is missing, or the file is broken.
    """
    io = scipy_io(expected)
    try:
        return io.loadmat(path, variable_names=[variable], **options)[variable]
    except (io.matlab.MatReadError, *_BROKEN) as error:
        what = (
            f"it has no array {variable}"
            if isinstance(error, KeyError)
            else " ".join(str(error).split())
        )
        raise DataError(
            f"{path} cannot be read as {expected}: {what}; unpack the release again"
        ) from error


def scipy_io(expected: str) -> Any:
    """The module `scipy.io`.

    Args:
        expected: What it is to read, for the message.

    Raises:
        DataError: It is not installed.
    """
    try:
        import scipy.io
    except ImportError as error:
        raise DataError(
            f"the MATLAB file of {expected} is read with the package scipy: "
            "pip install 'dcorr[data]'"
        ) from error
    return scipy.io
