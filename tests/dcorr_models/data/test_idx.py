from __future__ import annotations

import hashlib
import os
import struct

import numpy as np
import pytest

from dcorr_models.data.idx import find_idx, read_idx
from dcorr_models.errors import DataError
from tests.dcorr_models.data.idx_files import idx_bytes, packed

ARRAY = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
GOOD = idx_bytes(ARRAY)


@pytest.mark.parametrize("pack", [bytes, packed], ids=["plain", "gzipped"])
@pytest.mark.parametrize("shape", [(24,), (2, 3, 4), (0, 3, 4), (0,)])
def test_reads_what_was_written(tmp_path, pack, shape):
    array = ARRAY.reshape(-1)[: int(np.prod(shape))].reshape(shape)
    path = tmp_path / "file"
    path.write_bytes(pack(idx_bytes(array)))
    read = read_idx(path, ndim=len(shape))
    assert read.dtype == np.uint8
    assert read.shape == shape
    assert read.flags.writeable
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file: it starts with nothing"),
        (b"\0\0\x08", "not an IDX file: it starts with 00 00 08,"),
        (b"<html><body>404", "not an IDX file: it starts with 3c 68 74 6d"),
        (b"\x08\x03\0\0" + GOOD[4:], "not an IDX file: it starts with 08 03 00 00"),
        (b"\0\0\x0d\x03" + GOOD[4:], "IDX type 0x0d, wanted 0x08"),
        (idx_bytes(ARRAY[0, 0]), "has 1 dimensions, wanted 3; are images and labels swapped"),
        (GOOD[:10], "truncated: its header ends early"),
        (GOOD[:-1], "truncated: its header promises 2 x 3 x 4 = 24 bytes, 23 are there"),
        (GOOD[:16], "promises 2 x 3 x 4 = 24 bytes, 0 are there"),
        (b"\0\0\x08\x03" + struct.pack(">3I", *[2**32 - 1] * 3) + b"x", "truncated"),
        (GOOD + b"ab", "2 bytes too many after its 2 x 3 x 4 elements"),
        (packed(GOOD)[:-9], "broken gzip file"),
        (packed(GOOD)[:15], "broken gzip file"),
        (packed(GOOD)[:-5] + b"\0\0\0\0\0", "broken gzip file"),
        (packed(GOOD)[:10] + b"\xff" * 20, "broken gzip file"),
        (packed(GOOD[:-1]), "truncated"),
    ],
)
def test_a_broken_file_is_named_in_one_line(tmp_path, content, message):
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path, ndim=3)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pack", [bytes, packed], ids=["plain", "gzipped"])
def test_the_checksum_is_the_contents(tmp_path, pack):
    path = tmp_path / "images"
    path.write_bytes(pack(GOOD))
    read_idx(path, ndim=3, sha256=hashlib.sha256(GOOD).hexdigest())
    with pytest.raises(DataError, match="images fails its checksum"):
        read_idx(path, ndim=3, sha256="0" * 64)


def test_a_folder_in_the_files_place(tmp_path):
    with pytest.raises(DataError, match=f"cannot read {tmp_path}: Is a directory"):
        read_idx(tmp_path, ndim=3)


def test_an_unreadable_file(tmp_path):
    path = tmp_path / "images"
    path.write_bytes(GOOD)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(DataError, match=r"cannot read .*images: Permission denied"):
        read_idx(path, ndim=3)


@pytest.mark.parametrize(
    "name", ["a-idx3-ubyte", "a.idx3-ubyte", "a-idx3-ubyte.gz", "a.idx3-ubyte.gz"]
)
def test_finds_a_file_under_each_of_its_names(tmp_path, name):
    assert find_idx(tmp_path, "a-idx3-ubyte") is None
    (tmp_path / name).touch()
    assert find_idx(tmp_path, "a-idx3-ubyte") == tmp_path / name
