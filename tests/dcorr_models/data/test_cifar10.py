from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from dcorr_models.data import CIFAR10
from dcorr_models.errors import DataError
from tests.dcorr_models.data.cifar_files import binary_batch, python_batch, write_cifar

BOTH = pytest.mark.parametrize("binary", [True, False], ids=["binary", "python"])
REAL = Path(os.environ.get("DCORR_CIFAR10", "data/cifar10"))


def numbers(split) -> list[int]:
    return split.images[:, 0, 5, 5].tolist()


def batch_file(folder: Path, binary: bool, stem: str = "data_batch_3") -> Path:
    inner = folder / ("cifar-10-batches-bin" if binary else "cifar-10-batches-py")
    return inner / (f"{stem}.bin" if binary else stem)


@BOTH
def test_both_releases_are_read_alike(tmp_path, binary):
    folder = write_cifar(tmp_path, binary=binary)
    train, valid, test = CIFAR10(folder, valid=10, verify=False).splits()
    assert numbers(train) == list(range(40))
    assert numbers(valid) == list(range(40, 50))
    assert numbers(test) == list(range(50, 60))
    for split in (train, valid, test):
        assert split.labels.tolist() == [n % 10 for n in numbers(split)]
        assert split.images.shape[1:] == (3, 32, 32)
        assert split.images[0, :, 7, 7].tolist()[1:] == [101, 102]
        assert split.images[:, 0, 0, 1].eq(201).all(), "rows and columns are exchanged"
    assert train.value_range == (-1.0, 1.0)


def test_the_release_trains_on_everything_and_says_what_it_tests_on(tmp_path):
    folder = write_cifar(tmp_path, binary=True)
    data = CIFAR10(folder, split="release", signed=False, verify=False)
    train, valid, test = data.splits()
    assert numbers(train) == list(range(60))
    assert len(valid) == 0
    assert numbers(test) == list(range(50, 60))
    assert train.value_range == (0.0, 1.0)


@BOTH
def test_the_inner_folder_itself_will_do(tmp_path, binary):
    write_cifar(tmp_path, binary=binary)
    inner = batch_file(tmp_path, binary).parent
    assert len(CIFAR10(inner, valid=0, verify=False).splits().train) == 50


@BOTH
@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda content: content[:-7], r"data_batch_3\S* (has .* bytes|cannot be read)"),
        (lambda content: b"", r"data_batch_3\S* (has 0 bytes|cannot be read)"),
        (lambda content: b"not a batch", r"data_batch_3\S* (has 11 bytes|cannot be read)"),
    ],
)
def test_broken_batches_are_named(tmp_path, binary, broken, message):
    path = batch_file(write_cifar(tmp_path, binary=binary), binary)
    path.write_bytes(broken(path.read_bytes()))
    with pytest.raises(DataError, match=message):
        CIFAR10(tmp_path, valid=0, verify=False).splits()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [0] * 9}, r"labels of shape \(9,\)"),
        ({"labels": [0] * 9 + [10]}, "has the label 10, wanted 0 to 9"),
        ({"labels": [0] * 9 + [-1]}, "has labels from -1 to 0"),
        ({"data": np.zeros((10, 3071), np.uint8)}, r"shape \(10, 3071\)"),
        ({"data": np.zeros((10, 3072))}, "holds float64"),
    ],
)
def test_batches_of_another_content_are_refused(tmp_path, changes, message):
    path = batch_file(write_cifar(tmp_path, binary=False), binary=False)
    path.write_bytes(python_batch(2, 10, **changes))
    with pytest.raises(DataError, match=message):
        CIFAR10(tmp_path, valid=0, verify=False).splits()


class Attack:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_a_pickle_that_runs_code_is_refused_before_it_does(tmp_path):
    path = batch_file(write_cifar(tmp_path, binary=False), binary=False)
    path.write_bytes(pickle.dumps({"data": Attack(tmp_path / "made"), "labels": []}, protocol=2))
    with pytest.raises(DataError, match=r"asks for \w+.mkdir, which no batch needs"):
        CIFAR10(tmp_path, valid=0, verify=False).splits()
    assert not (tmp_path / "made").exists()


def test_a_label_beyond_the_classes_is_refused(tmp_path):
    path = batch_file(write_cifar(tmp_path, binary=True), binary=True)
    path.write_bytes(b"\x0a" + binary_batch(2, 10)[1:])
    with pytest.raises(DataError, match="has the label 10, wanted 0 to 9"):
        CIFAR10(tmp_path, valid=0, verify=False).splits()


def test_files_that_are_not_the_published_ones_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"data_batch_1 is not the published file \(MD5"):
        CIFAR10(write_cifar(tmp_path / "py", binary=False)).splits()
    with pytest.raises(DataError, match=r"data_batch_1.bin holds 10 images, the published file 1"):
        CIFAR10(write_cifar(tmp_path / "bin", binary=True)).splits()


def test_classes_that_are_not_equally_frequent_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("dcorr_models.data.cifar10._RECORDS", 12)
    folder = write_cifar(tmp_path, binary=True, images=12)
    with pytest.raises(DataError, match=r"training batches in .* from 5 to 10 images of a class"):
        CIFAR10(folder).splits()


def test_missing_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"does not exist; put cifar-10-binary.tar.gz or"):
        CIFAR10(tmp_path / "none").splits()
    with pytest.raises(DataError, match="has no batches of CIFAR-10"):
        CIFAR10(tmp_path).splits()
    folder = write_cifar(tmp_path, binary=True)
    batch_file(folder, True, "test_batch").unlink()
    with pytest.raises(DataError, match=r"lacks test_batch.bin of CIFAR-10"):
        CIFAR10(folder).splits()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "paper"}, "'official' or 'release', got 'paper'"),
        ({"valid": -1}, "valid must be 0 or more"),
        ({"valid": 50}, "valid asks for 50 of the 50 training images"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, options, message):
    write_cifar(tmp_path, binary=True)
    with pytest.raises(DataError, match=message):
        CIFAR10(tmp_path, verify=False, **options).splits()


def test_nothing_is_downloaded(tmp_path):
    lines: list[str] = []
    data = CIFAR10(write_cifar(tmp_path, binary=True), valid=10, verify=False)
    data.prepare(say=lines.append)
    assert lines == ["CIFAR-10: read 40 + 10 + 10 images"]
    with pytest.raises(DataError, match="is not downloaded; leave the mirror"):
        data.prepare(mirror="https://example.org")


@pytest.mark.skipif(not REAL.exists(), reason="CIFAR-10 is not there (DCORR_CIFAR10)")
def test_the_published_files():
    train, valid, test = CIFAR10(REAL).splits()
    assert [len(train), len(valid), len(test)] == [45_000, 5_000, 10_000]
    assert train.labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    assert torch.equal(test.labels.bincount(), torch.full((10,), 1_000))
