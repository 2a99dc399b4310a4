from __future__ import annotations

import gzip
import hashlib
import importlib.util
import os
import stat
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from dcorr_models.data import MNIST, FashionMNIST
from dcorr_models.data.download import fetch
from dcorr_models.errors import DataError
from tests.dcorr_models.data.idx_files import STEMS, packed, write_folder


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder; remembers what was asked for; cuts `/short/` files in the middle."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path.startswith("/short/"):
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"half")
            return
        super().do_GET()

    def log_message(self, *arguments: object) -> None:
        """Keeps quiet."""


class Mirror:
    """A web server on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        handler = type("OwnHandler", (Handler,), {"asked": []})
        self.asked: list[str] = handler.asked
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=folder))
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def mirror(tmp_path, monkeypatch) -> Iterator[Mirror]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "served").mkdir()
    made = Mirror(tmp_path / "served")
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


@pytest.fixture
def small_mnist(mirror) -> type[MNIST]:
    """MNIST, but its published files are the small ones that the mirror serves."""
    write_folder(mirror.folder / "mnist")
    contents = {
        stem: gzip.decompress((mirror.folder / "mnist" / f"{stem}.gz").read_bytes())
        for stem in STEMS
    }

    class SmallMNIST(MNIST):
        mirrors = (f"{mirror.url}/mnist/",)
        files: ClassVar = {
            stem: hashlib.sha256(content).hexdigest() for stem, content in contents.items()
        }

    return SmallMNIST


GOOD = b"good content"
SHA256 = hashlib.sha256(GOOD).hexdigest()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_prepare_downloads_what_splits_then_reads(tmp_path, mirror, small_mnist):
    source = small_mnist(tmp_path / "new" / "folder", split="release")
    lines: list[str] = []
    source.prepare(say=lines.append)
    assert names(source.folder) == sorted(f"{stem}.gz" for stem in STEMS)
    assert len(source.splits().train) == 50
    assert sum("checksum right" in line for line in lines) == 4
    assert len(mirror.asked) == 4
    source.prepare(say=lines.append)
    assert len(mirror.asked) == 4
    assert sum("is there, checksum right" in line for line in lines) == 4


def test_prepare_fetches_what_is_missing_and_touches_nothing_else(tmp_path, mirror, small_mnist):
    folder = write_folder(tmp_path / "mine", zipped=False)
    (folder / STEMS[2]).unlink()
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    small_mnist(folder).prepare(say=lambda line: None)
    assert mirror.asked == [f"/mnist/{STEMS[2]}.gz"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(small_mnist(folder).splits().test) == 10


def test_prepare_leaves_a_wrong_file_alone(tmp_path, mirror, small_mnist):
    folder = write_folder(tmp_path / "mine", zipped=False)
    (folder / STEMS[0]).write_bytes(b"my own notes")
    with pytest.raises(
        DataError, match="images-idx3-ubyte is not the published file and is not over"
    ):
        small_mnist(folder).prepare(say=lambda line: None)
    assert (folder / STEMS[0]).read_bytes() == b"my own notes"
    assert mirror.asked == []


def test_prepare_takes_a_mirror(tmp_path, mirror, small_mnist):
    (mirror.folder / "mnist").rename(mirror.folder / "elsewhere")
    with pytest.raises(DataError, match="404"):
        small_mnist(tmp_path / "a").prepare(say=lambda line: None)
    assert names(tmp_path / "a") == []
    small_mnist(tmp_path / "a").prepare(mirror=f"{mirror.url}/elsewhere", say=lambda line: None)
    assert len(names(tmp_path / "a")) == 4


def test_prepare_into_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file is a file; name a folder to download"):
        FashionMNIST(tmp_path / "file").prepare()


@pytest.mark.parametrize("content", [GOOD, packed(GOOD), packed(GOOD, level=0)])
def test_the_content_counts_not_its_packing(tmp_path, mirror, content):
    (mirror.folder / "a.gz").write_bytes(content)
    url = fetch("a.gz", tmp_path / "to", sha256=SHA256, mirrors=[mirror.url])
    assert url == f"{mirror.url}/a.gz"
    assert (tmp_path / "to" / "a.gz").read_bytes() == content


def test_the_file_has_the_users_usual_mode(tmp_path, mirror):
    (mirror.folder / "a").write_bytes(GOOD)
    fetch("a", tmp_path, sha256=SHA256, mirrors=[mirror.url])
    (tmp_path / "usual").touch()
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "usual")]
    assert modes[0] == modes[1]


def test_the_next_mirror_is_tried(tmp_path, mirror):
    (mirror.folder / "bad").mkdir()
    (mirror.folder / "bad" / "a").write_bytes(b"something else")
    (mirror.folder / "a").write_bytes(GOOD)
    addresses = [f"{mirror.url}/none", f"{mirror.url}/bad/", "http://127.0.0.1:1", mirror.url]
    assert fetch("a", tmp_path, sha256=SHA256, mirrors=addresses) == f"{mirror.url}/a"
    assert (tmp_path / "a").read_bytes() == GOOD


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"something else", "checksum mismatch, SHA-256 [0-9a-f]{12}... of the content, wanted"),
        (b"", "checksum mismatch"),
        (packed(GOOD)[:-4], "is a broken gzip file"),
    ],
)
def test_a_bad_file_is_not_left_behind(tmp_path, mirror, content, message):
    (mirror.folder / "a").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        fetch("a", tmp_path / "to", sha256=SHA256, mirrors=[mirror.url])
    assert names(tmp_path / "to") == []
    assert f"{mirror.url}/a" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("/short", "the connection broke off|no connection"),
        ("/none", "HTTP status 404"),
        ("http://127.0.0.1:1", "no connection"),
        ("nonsense", "Unrecognized URL protocol|No schema|Invalid URL"),
        ("gopher://127.0.0.1/x", "gopher"),
    ],
)
def test_a_failed_download_leaves_nothing_behind(tmp_path, mirror, address, reason):
    address = mirror.url + address if address.startswith("/") else address
    with pytest.raises(
        DataError, match=rf"cannot download a \({address}/a: .*({reason})"
    ) as caught:
        fetch("a", tmp_path / "to", sha256=SHA256, mirrors=[address])
    assert names(tmp_path / "to") == []
    assert "\n" not in str(caught.value)


def test_nothing_is_overwritten(tmp_path, mirror):
    (mirror.folder / "a").write_bytes(GOOD)
    (tmp_path / "a").write_bytes(b"mine")
    with pytest.raises(DataError, match="a exists and is not overwritten"):
        fetch("a", tmp_path, sha256=SHA256, mirrors=[mirror.url])
    assert (tmp_path / "a").read_bytes() == b"mine"
    assert mirror.asked == []


def test_a_folder_that_cannot_be_made(tmp_path, mirror):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot write to .*file/sub: Not a directory"):
        fetch("a", tmp_path / "file" / "sub", sha256=SHA256, mirrors=[mirror.url])


def test_a_folder_without_permission(tmp_path, mirror):
    (tmp_path / "locked").mkdir(mode=0o500)
    if os.access(tmp_path / "locked", os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(DataError, match=r"cannot write to .*locked: Permission denied"):
        fetch("a", tmp_path / "locked", sha256=SHA256, mirrors=[mirror.url])


def test_pooch_is_asked_for_by_name(tmp_path, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "pooch" else find_spec(name)
    )
    with pytest.raises(DataError, match=r"pip install 'dcorr\[data\]'"):
        fetch("a", tmp_path, sha256=SHA256, mirrors=[])
