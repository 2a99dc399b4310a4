from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from dcorr_models.data import image_cache
from dcorr_models.data.image_cache import cache_path, cached_images, default_cache_folder
from dcorr_models.data.parallel import for_each_row
from dcorr_models.errors import DataError

SHAPE = (6, 1, 2, 2)


def numbered(skipped=()):
    def fill(images):
        for row in range(len(images)):
            images[row] = 99 if row in skipped else row
        return list(skipped)

    return fill


def never(images):
    pytest.fail("filled again")


def test_filled_once_and_mapped(tmp_path):
    path = tmp_path / "deep" / "images.npy"
    for fill in (numbered(), never):
        found = cached_images(path, SHAPE, fill)
        assert found.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
        assert found.skipped == ()
    assert [child.name for child in path.parent.iterdir()] == ["images.npy"]


@pytest.mark.parametrize("skipped", [(0,), (5,), (1, 2, 4), (0, 1, 2, 3, 4, 5)])
@pytest.mark.parametrize("at_once", [1, 4096])
def test_gaps_are_closed(tmp_path, monkeypatch, skipped, at_once):
    monkeypatch.setattr(image_cache, "MOVED_AT_ONCE", at_once)
    for fill in (numbered(skipped), never):
        found = cached_images(tmp_path / "images.npy", SHAPE, fill)
        assert found.skipped == skipped
        assert found.images[:, 0, 0, 0].tolist() == [n for n in range(6) if n not in skipped]


def test_a_list_of_skipped_images_without_the_images_is_forgotten(tmp_path):
    path = tmp_path / "images.npy"
    cached_images(path, SHAPE, numbered((2,)))
    path.unlink()
    assert len(cached_images(path, SHAPE, numbered()).images) == 6
    assert len(cached_images(path, SHAPE, never).images) == 6


@pytest.mark.parametrize("text", ["[2", "2", '["a"]', "[6]", "{}"])
def test_a_list_that_cannot_be_read_is_made_again(tmp_path, text):
    path = tmp_path / "images.npy"
    cached_images(path, SHAPE, numbered((2,)))
    path.with_suffix(".skipped.json").write_text(text)
    assert cached_images(path, SHAPE, numbered((2,))).skipped == (2,)


def test_a_file_that_begins_like_an_archive_is_made_again(tmp_path):
    path = tmp_path / "images.npy"
    path.write_bytes(b"PK\x03\x04 and nothing of a zip archive")
    assert len(cached_images(path, SHAPE, numbered()).images) == 6


def test_settings_are_part_of_the_name(tmp_path):
    names = {cache_path(tmp_path, "a", {"size": size, "seed": 1}) for size in (64, 32)}
    assert len(names) == 2
    again = cache_path(tmp_path, "a", {"seed": 1, "size": 64})
    assert again in names, "the order of the settings does not count"


def test_what_a_killed_process_left_is_removed(tmp_path):
    pytest.importorskip("fcntl")
    left = tmp_path / ".images-left"
    left.mkdir()
    (left / "half.npy").write_bytes(b"half")
    cached_images(tmp_path / "images.npy", SHAPE, numbered())
    assert not left.exists()


def test_a_second_process_waits_for_the_first(tmp_path):
    pytest.importorskip("fcntl")
    code = """
import sys, time
from pathlib import Path
from dcorr_models.data.image_cache import cached_images

def slowly(images):
    print("filling", flush=True)
    time.sleep(3)
    images[:] = 7
    return ()

cached_images(Path(sys.argv[1]), (6, 1, 2, 2), slowly)
"""
    path = tmp_path / "images.npy"
    first = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert first.stdout is not None
    assert first.stdout.readline() == "filling\n"
    found = cached_images(path, SHAPE, never)
    assert (found.images == 7).all()
    assert first.wait(timeout=60) == 0


def test_without_locks_a_file_is_made_all_the_same(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def no_locks(*_):
        raise OSError("no locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert len(cached_images(tmp_path / "images.npy", SHAPE, numbered()).images) == 6


def test_too_little_room(tmp_path, monkeypatch):
    usage = shutil._ntuple_diskusage(10**9, 10**9, 1_900_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match=r"need 2\.0 MB in .* has 1\.9 MB free; name another"):
        cached_images(tmp_path / "images.npy", (2, 1, 1000, 1000), never)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="files have no reserved room here")
def test_a_disk_that_fills_meanwhile_is_found_before_the_file_is_mapped_full(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DataError, match=r"No space left on device; name another folder"):
        cached_images(tmp_path / "images.npy", SHAPE, never)
    assert list(tmp_path.iterdir()) == []

    def unknown(*_):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "posix_fallocate", unknown)
    assert len(cached_images(tmp_path / "images.npy", SHAPE, numbered()).images) == 6


def test_the_users_cache(monkeypatch, tmp_path):
    if os.name == "nt":
        pytest.skip("another variable names it there")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_folder() == tmp_path / "dcorr_models"


def test_rows_in_processes_keep_their_order_and_their_errors():
    offset = 1000  # a function that could not be pickled
    assert list(for_each_row(lambda row: row + offset, 300)) == [*range(1000, 1300)]

    def fails(row):
        if row == 150:
            raise DataError("row 150")
        return row

    began = time.monotonic()
    with pytest.raises(DataError, match="row 150"):
        list(for_each_row(fails, 300))
    assert time.monotonic() - began < 60


@pytest.mark.skipif(sys.platform != "linux", reason="one process does the work elsewhere")
def test_a_killed_process_is_no_wait_without_end(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})

    def killed(row):
        if row == 150:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(DataError, match="was killed, perhaps for lack of memory"):
        list(for_each_row(killed, 300))


def test_processes_write_into_the_mapped_file(tmp_path):
    def fill(images):
        def write(row):
            images[row] = row % 256

        for _ in for_each_row(write, len(images)):
            pass
        return ()

    found = cached_images(tmp_path / "images.npy", (500, 1, 2, 2), fill)
    assert np.array_equal(found.images[:, 0, 1, 1], np.arange(500) % 256)
