from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from dcorr_models.data import BundledDigits
from dcorr_models.data.digits import ARCHIVE, build_archive, load_archive
from dcorr_models.errors import DataError
from tests.dcorr_models.data.idx_files import write_folder

REAL_MNIST = Path(os.environ.get("DCORR_MNIST", "data/mnist"))


def keys(split) -> set[bytes]:
    return {image.numpy().tobytes() for image in split.images}


def test_the_splits_are_balanced_and_disjoint():
    splits = BundledDigits().splits()
    assert [len(split) for split in splits] == [4000, 200, 800]
    for split in splits:
        assert split.labels.bincount().tolist() == [len(split) // 10] * 10
        assert split.images.shape[1:] == (1, 28, 28)
        assert split.tensors(2)[0].shape == (2, 1, 28, 28)
    train, valid, test = map(keys, splits)
    assert len(train | valid | test) == 5000


def test_they_are_digits():
    # the mean image of a class is nearest to the images of its class, mostly: labels fit
    splits = BundledDigits().splits()
    images, labels = splits.train.tensors()
    means = torch.stack([images[labels == digit].mean(dim=0).flatten() for digit in range(10)])
    test_images, test_labels = splits.test.tensors()
    nearest = torch.cdist(test_images.flatten(1), means).argmin(dim=1)
    assert (nearest == test_labels).float().mean() > 0.75
    assert images.amax() == 1.0
    assert images.amin() == 0.0


@pytest.mark.parametrize("sizes", [(5000, 0, 0), (1, 0, 0), (123, 45, 67), (4999, 1, 0)])
def test_sizes_are_arguments(sizes):
    splits = BundledDigits(*sizes).splits()
    assert tuple(len(split) for split in splits) == sizes
    for split in splits:
        counts = split.labels.bincount(minlength=10)
        assert counts.max() - counts.min() <= 2
    # the training images do not depend on how the rest is cut
    first = BundledDigits(sizes[0], 0, 0).splits().train
    assert torch.equal(splits.train.images, first.images)


def test_the_seed_decides():
    one, same, other = (BundledDigits(seed=seed).splits().test for seed in (0, 0, 1))
    assert torch.equal(one.images, same.images)
    assert not torch.equal(one.images, other.images)


@pytest.mark.parametrize(
    "options", [{"train": 0}, {"valid": -1}, {"test": -1}, {"train": 4001}, {"seed": -1}]
)
def test_wrong_options(options):
    with pytest.raises(DataError, match="|".join(options)):
        BundledDigits(**options)


def test_a_changed_pixel_is_found(tmp_path):
    images, labels = load_archive(ARCHIVE)
    images[17, 3, 3] ^= 1
    path = tmp_path / "digits.npz"
    np.savez_compressed(path, images=images, labels=labels)
    with pytest.raises(DataError, match=r"digits\.npz fail their checksum: .* install"):
        load_archive(path)


def break_archive(path: Path, case: str) -> None:
    content = ARCHIVE.read_bytes()
    if case == "truncated":
        path.write_bytes(content[:-100])
    elif case == "text":
        path.write_bytes(b"version https://git-lfs")
    elif case == "flipped":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes(50) + content[middle + 50 :])
    elif case == "empty":
        path.write_bytes(b"")
    elif case == "keys":
        np.savez(path, images=np.zeros(3))
    elif case == "folder":
        path.mkdir()


@pytest.mark.parametrize(
    "case", ["missing", "truncated", "text", "flipped", "empty", "keys", "folder"]
)
def test_a_broken_archive_is_named_in_one_line(tmp_path, case):
    path = tmp_path / "digits.npz"
    break_archive(path, case)
    wanted = "are missing" if case == "missing" else "cannot be read"
    with pytest.raises(DataError, match=rf"digits\.npz {wanted}.*; install the package") as caught:
        load_archive(path)
    assert "\n" not in str(caught.value)


def test_building_chooses_training_images_of_each_class_alike(tmp_path):
    folder = write_folder(tmp_path / "mnist", train=100, test=10)
    path = tmp_path / "chosen.npz"
    sha256 = build_archive(folder, path, per_class=4, verify=False)
    images, labels = load_archive(path, sha256=sha256)
    assert np.bincount(labels).tolist() == [4] * 10
    numbers = images[:, 0, 0].astype(int) * 256 + images[:, 0, 1]
    assert (numbers % 10 == labels).all()
    assert len(set(numbers)) == 40
    assert numbers.max() < 100
    assert sorted(numbers) != numbers.tolist()
    assert build_archive(folder, tmp_path / "2.npz", per_class=4, verify=False) == sha256
    other = build_archive(folder, tmp_path / "3.npz", per_class=4, seed=1, verify=False)
    assert other != sha256


def test_building_overwrites_nothing_and_counts_first(tmp_path):
    folder = write_folder(tmp_path / "mnist")
    path = tmp_path / "chosen.npz"
    with pytest.raises(DataError, match="has 6 images, wanted 7"):
        build_archive(folder, path, per_class=7, verify=False)
    assert not path.exists()
    path.write_text("mine")
    with pytest.raises(DataError, match="exists and is not overwritten"):
        build_archive(folder, path, per_class=4, verify=False)
    assert path.read_text() == "mine"


def test_the_archive_carries_its_credit():
    with np.load(ARCHIVE, allow_pickle=False) as archive:
        credit = str(archive["credit"])
    assert all(name in credit for name in ("LeCun", "Cortes", "Burges"))


def test_the_bundled_archive_comes_from_mnist(tmp_path):
    if not REAL_MNIST.exists():
        pytest.skip("needs MNIST; name its folder in DCORR_MNIST")
    rebuilt = load_archive(
        tmp_path / "digits.npz", sha256=build_archive(REAL_MNIST, tmp_path / "digits.npz")
    )
    for ours, bundled in zip(rebuilt, load_archive(ARCHIVE), strict=True):
        np.testing.assert_array_equal(ours, bundled)
