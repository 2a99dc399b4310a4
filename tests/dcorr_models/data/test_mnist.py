from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from dcorr_models.data import MNIST, FashionMNIST
from dcorr_models.errors import DataError
from tests.dcorr_models.data.idx_files import (
    STEMS,
    idx_bytes,
    numbered_digits,
    numbers_of,
    write_folder,
)

REAL = {
    MNIST: os.environ.get("DCORR_MNIST", "data/mnist"),
    FashionMNIST: os.environ.get("DCORR_FASHION_MNIST", "/usr/share/datasets/fashion-mnist"),
}


@pytest.mark.parametrize("zipped", [True, False])
def test_the_release_split_keeps_the_files_order(tmp_path, zipped):
    folder = write_folder(tmp_path, zipped=zipped)
    splits = MNIST(folder, split="release", verify=False).splits()
    assert numbers_of(splits.train.images) == list(range(50))
    assert numbers_of(splits.valid.images) == list(range(50, 60))
    assert numbers_of(splits.test.images) == list(range(60, 70))


def test_the_paper_split_shuffles_everything_once(tmp_path):
    folder = write_folder(tmp_path)
    splits = MNIST(folder, verify=False).splits()
    assert [len(split) for split in splits] == [50, 10, 10]
    numbers = [number for split in splits for number in numbers_of(split.images)]
    assert sorted(numbers) == list(range(70))
    assert numbers != list(range(70))
    again = MNIST(folder, verify=False).splits()
    other = MNIST(folder, seed=1, verify=False).splits()
    assert numbers_of(again.train.images) == numbers[:50]
    assert numbers_of(other.train.images) != numbers[:50]


@pytest.mark.parametrize("split", ["paper", "release"])
def test_images_and_labels_stay_together(tmp_path, split):
    for part in MNIST(write_folder(tmp_path), split=split, verify=False).splits():
        assert part.images.shape[1:] == (1, 28, 28)
        assert part.images.dtype == torch.uint8
        expected = [number % 10 for number in numbers_of(part.images)]
        assert part.labels.tolist() == expected


def test_names_with_a_dot(tmp_path):
    folder = write_folder(tmp_path)
    for path in folder.iterdir():
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    assert len(MNIST(folder, verify=False).splits().train) == 50


@pytest.mark.parametrize("source", [MNIST, FashionMNIST])
def test_files_that_are_not_the_published_ones_are_refused(tmp_path, source):
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz fails its checksum"):
        source(write_folder(tmp_path)).splits()


def break_folder(folder: Path, case: str) -> None:
    images, labels = numbered_digits(0, 60)
    if case == "no labels":
        (folder / STEMS[1]).unlink()
    elif case == "count":
        (folder / STEMS[1]).write_bytes(idx_bytes(labels[:-1]))
    elif case == "range":
        labels[7] = 10
        (folder / STEMS[1]).write_bytes(idx_bytes(labels))
    elif case == "pixels":
        (folder / STEMS[0]).write_bytes(idx_bytes(images[:, :, :27]))
    elif case == "swapped":
        (folder / STEMS[0]).write_bytes(idx_bytes(labels))
    elif case == "truncated":
        (folder / STEMS[2]).write_bytes((folder / STEMS[2]).read_bytes()[:-1])
    elif case == "folder":
        (folder / STEMS[3]).unlink()
        (folder / STEMS[3]).mkdir()


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("no labels", r"lacks train-labels-idx1-ubyte \(or \.gz\) of MNIST; run .* prepare"),
        ("count", "images-idx3-ubyte has 60 images, but .*labels-idx1-ubyte has 59 labels"),
        ("range", "labels-idx1-ubyte has the label 10, wanted 0 to 9"),
        ("pixels", "images-idx3-ubyte holds images of 28 x 27 pixels, wanted 28 x 28"),
        ("swapped", "has 1 dimensions, wanted 3"),
        ("truncated", "t10k-images-idx3-ubyte is truncated"),
        ("folder", "cannot read .*t10k-labels-idx1-ubyte: Is a directory"),
    ],
)
def test_a_broken_folder_is_named_in_one_line(tmp_path, case, message):
    folder = write_folder(tmp_path, zipped=False)
    break_folder(folder, case)
    with pytest.raises(DataError, match=message) as caught:
        MNIST(folder, verify=False).splits()
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_path(tmp_path):
    with pytest.raises(DataError, match=r"nowhere for MNIST does not exist; run .* prepare"):
        MNIST(tmp_path / "nowhere").splits()
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file is a file; name the folder"):
        MNIST(tmp_path / "file").splits()
    with pytest.raises(DataError, match=r"lacks train-images-idx3-ubyte, .*, t10k-labels"):
        MNIST(tmp_path).splits()


def test_constructing_reads_nothing(tmp_path):
    assert MNIST(tmp_path / "nowhere").folder == tmp_path / "nowhere"


@pytest.mark.parametrize("options", [{"split": "mine"}, {"seed": -1}, {"seed": 2**32}])
def test_wrong_options(options):
    with pytest.raises(DataError, match=next(iter(options))):
        MNIST("anywhere", **options)


def test_the_default_folder_is_the_first_that_exists(tmp_path, monkeypatch):
    folders = (str(tmp_path / "home"), str(tmp_path / "debian"))
    monkeypatch.setattr(FashionMNIST, "default_folders", folders)
    assert FashionMNIST().folder == tmp_path / "home"
    write_folder(tmp_path / "debian")
    assert FashionMNIST().folder == tmp_path / "debian"
    (tmp_path / "home").mkdir()
    assert FashionMNIST().folder == tmp_path / "home"
    assert FashionMNIST(tmp_path / "mine").folder == tmp_path / "mine"


@pytest.mark.parametrize("source", [MNIST, FashionMNIST])
def test_the_published_files(source):
    if not Path(REAL[source]).exists():
        pytest.skip(f"needs {source.name}; name its folder in DCORR_MNIST, DCORR_FASHION_MNIST")
    paper = source(REAL[source]).splits()
    release = source(REAL[source], split="release").splits()
    for splits in (paper, release):
        assert [len(split) for split in splits] == [50_000, 10_000, 10_000]
        total = sum(np.bincount(split.labels, minlength=10) for split in splits)
        assert total.sum() == 70_000
        assert total.min() >= 6_000
    # published facts: how often each class is in the test file
    if source is FashionMNIST:
        assert release.test.labels.bincount().tolist() == [1000] * 10
    else:
        expected = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
        assert release.test.labels.bincount().tolist() == expected
