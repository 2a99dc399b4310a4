"""Downloads that are checked before they are put in place."""

from __future__ import annotations

import importlib.util
import logging
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dcorr_models.data.files import content_sha256
from dcorr_models.errors import DataError

__all__ = ["fetch"]

_TIMEOUT_SECONDS = 30


def fetch(name: str, folder: Path, *, sha256: str, mirrors: Sequence[str]) -> str:
    """Download one file into a folder, from the first mirror that has it with the right content.

    The file is checked under a temporary name and moved into place afterwards: what lies under
    its own name is complete, and a failure leaves nothing behind. A file that exists is never
    replaced.

    Args:
        name: The file's name, on the mirrors and in the folder.
        folder: Where it goes; made if it does not exist.
        sha256: SHA-256 of the content, unzipped where the file is gzipped: mirrors pack the
            same bytes differently.
        mirrors: Addresses of folders, tried in this order.

    Returns:
        The address that the file came from.

    Raises:
        DataError: If the file exists, the folder cannot be written, pooch is not installed, or
            no mirror has the file with this content; the message says why for each.
    """
    if importlib.util.find_spec("pooch") is None:
        raise DataError("downloads need the package pooch: pip install 'dcorr[data]'")
    target = folder / name
    if target.exists():
        raise DataError(f"{target} exists and is not overwritten; move it away first")
    reasons = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as temporary:
            for mirror in mirrors:
                url = f"{mirror.rstrip('/')}/{name}"
                reason = _try_download(url, Path(temporary), sha256)
                if reason is None:
                    # copied once more, since the download has the owner-only mode of temp files
                    checked = Path(temporary) / "checked"
                    shutil.copyfile(Path(temporary) / "download", checked)
                    checked.replace(target)
                    return url
                reasons.append(f"{url}: {reason}")
    except OSError as error:
        raise DataError(f"cannot write to {folder}: {error.strerror or error}") from error
    raise DataError(
        f"cannot download {name} ({'; '.join(reasons)}); name another mirror, "
        f"or put the file into {folder} by hand"
    )


def _try_download(url: str, folder: Path, sha256: str) -> str | None:
    """Download to `folder/download`; returns what went wrong, or None."""
    import pooch

    pooch.get_logger().setLevel(logging.ERROR)  # it prints unchecked checksums otherwise
    show_progress = sys.stderr.isatty() and importlib.util.find_spec("tqdm") is not None
    (folder / "download").unlink(missing_ok=True)
    try:
        downloader = pooch.HTTPDownloader(progressbar=show_progress, timeout=_TIMEOUT_SECONDS)
        pooch.retrieve(url, None, fname="download", path=folder, downloader=downloader)
    except (OSError, ValueError) as error:  # requests' errors are OSErrors
        return _reason(error)
    try:
        found = content_sha256(folder / "download")
    except DataError:
        return "is a broken gzip file"
    if found != sha256:
        return f"checksum mismatch, SHA-256 {found[:12]}... of the content, wanted {sha256[:12]}..."
    return None


def _reason(error: Exception) -> str:
    """In a few words; requests' own text repeats the address and the whole chain of causes."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP status {error.response.status_code}"
    if isinstance(error, requests.Timeout):
        return f"no answer within {_TIMEOUT_SECONDS} seconds"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    return " ".join(str(error).split())
