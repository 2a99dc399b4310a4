"""SmallNORB, Cars3D and dSprites on small files in the formats of their releases."""

from __future__ import annotations

import math
import shutil
import sys

import numpy as np
import pytest
import scipy.io
import torch

from dcorr_models.data import Cars3D, DSprites, SmallNORB
from dcorr_models.errors import DataError
from tests.dcorr_models.data.official_files import (
    NORB_FILES,
    dsprites_number,
    norb_bytes,
    norb_grey,
    write_cars,
    write_dsprites,
    write_norb,
)

TRAINING, TESTING = (NORB_FILES[kind][0] for kind in ("training", "testing"))
CATEGORIES = ("animal", "human", "plane", "truck", "car")


@pytest.fixture(scope="module")
def norb(tmp_path_factory):
    return write_norb(tmp_path_factory.mktemp("norb"))


@pytest.fixture(scope="module")
def cars(tmp_path_factory):
    return write_cars(tmp_path_factory.mktemp("cars"))


@pytest.fixture(scope="module")
def dsprites(tmp_path_factory):
    return write_dsprites(tmp_path_factory.mktemp("dsprites") / "dsprites.npz")


def small_norb(folder, **options) -> SmallNORB:
    return SmallNORB(**({"folder": folder, "size": 8, "cache": folder / "cache"} | options))


def all_rows(splits, name: str) -> torch.Tensor:
    return torch.cat([getattr(split, name) for split in splits])


@pytest.mark.parametrize("zipped", [False, True])
def test_norb_by_instance(tmp_path, zipped):
    data = small_norb(write_norb(tmp_path, zipped=zipped))
    train, valid, test = data.splits()
    # 2 categories, 2 toys, 2 lights, 2 elevations, 2 cameras; 3 azimuths
    assert [len(train), len(valid), len(test)] == [96, 0, 96]
    assert len(data.label_names) == 64
    assert train.content.bincount().tolist() == [32, 32, 32]
    for split, instances in ((train, (4, 9)), (test, (0, 5))):
        for row in range(len(split)):
            toy, light, elevation, camera = data.label_names[split.labels[row]].split(", ")
            category, instance = toy.split()
            assert int(instance) in instances
            azimuth = (0, 2, 34)[split.content[row]]
            wanted = norb_grey(
                CATEGORIES.index(category), int(instance), int(elevation[-1]), azimuth,
                int(light[-1]),
            ) + (camera == "right")  # fmt: skip
            assert split.images[row].unique().tolist() == [wanted]
            angle = math.radians(10 * azimuth)
            assert split.targets[row].tolist() == pytest.approx(
                [math.radians(30 + 5 * int(elevation[-1])), math.cos(angle), math.sin(angle)]
            )
            numbers = [int(elevation[-1]), azimuth // 2, int(light[-1]), int(camera == "right")]
            assert split.factors[row].tolist() == [CATEGORIES.index(category), *numbers]
    assert data.factor_names == ("category", "elevation", "azimuth", "lighting", "camera")
    assert data.factor_sizes == (5, 9, 18, 6, 2)


@pytest.mark.parametrize(
    ("options", "classes", "contents"),
    [
        ({}, 64, 3),
        ({"camera": "neither"}, 32, 3),
        ({"camera": "content"}, 32, 6),
        ({"elevation": "content"}, 32, 6),
        ({"elevation": "content", "camera": "neither"}, 16, 6),
    ],
)
def test_norbs_class_definitions(norb, options, classes, contents):
    data = small_norb(norb, split="image", **options)
    splits = data.splits()
    labels, content = all_rows(splits, "labels"), all_rows(splits, "content")
    assert len(data.label_names) == len(set(data.label_names)) == classes
    assert labels.bincount().tolist() == [192 // classes] * classes
    assert content.unique().tolist() == list(range(contents))
    images = all_rows(splits, "images").flatten(1)
    pairs = torch.stack([labels, content], dim=1)
    assert len(pairs.unique(dim=0)) == classes * contents
    # class and content fix the image, but where the camera is in neither
    distinct = 2 if options.get("camera") == "neither" else 1
    for pair in pairs.unique(dim=0)[:10]:
        assert len(images[(pairs == pair).all(1)].unique(dim=0)) == distinct


def test_norb_by_class_and_by_image(norb):
    train, valid, test = small_norb(norb, split="class", valid=0.25).splits()
    assert len(test.labels.unique()) == 32
    assert not set(test.labels.tolist()) & set(train.labels.tolist())
    assert [len(train), len(valid), len(test)] == [72, 24, 96]
    counted = small_norb(norb, split="class", test_classes=5).splits()
    assert len(counted.test.labels.unique()) == 5
    train, _, test = small_norb(norb, split="image", elevation="content").splits()
    assert len(test) == 19
    assert len(train.labels.unique()) == 32


def test_norb_is_shrunk_as_opencv_does_it(tmp_path):
    folder = write_norb(tmp_path)
    pixels = np.random.RandomState(0).randint(0, 256, (48, 2, 96, 96)).astype(np.uint8)
    (folder / f"{TRAINING}-dat.mat").write_bytes(norb_bytes(pixels))
    train = small_norb(folder, size=48, camera="content").splits().train
    # halved, the nearest four pixels are a block of two by two, with equal weights
    blocks = pixels.reshape(96, 48, 2, 48, 2).astype(float).mean(axis=(2, 4))
    wanted = {np.floor(block + 0.5).astype(np.uint8).tobytes() for block in blocks}
    assert {image.numpy().tobytes() for image in train.images} == wanted


def change(path, first: int, new: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[first : first + len(new)] = new
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("what", "damage", "message"),
    [
        ("dat", lambda p: change(p, 0, b"\x54"), r"-dat.mat is a matrix of integers: its magic "
         r"number is 1E3D4C54, wanted 1E3D4C55 \(bytes\)"),
        ("cat", lambda p: change(p, 0, b"MATL"), "cat.mat is not one of NORB's binary matrices"),
        ("dat", lambda p: change(p, 16, b"\x6c"), "sizes 48 x 2 x 108 x 96, wanted any x 2 x 96"),
        ("dat", lambda p: p.write_bytes(p.read_bytes()[:-1]), "promises 1 bytes more"),
        ("dat", lambda p: p.write_bytes(p.read_bytes() + b"x"), "bytes after its last element"),
        ("cat", lambda p: p.write_bytes(p.read_bytes()[:5]), "truncated: 5 bytes are no header"),
        ("cat", lambda p: change(p, 8, b"\x2f"), "dimensions of sizes 47, wanted 48"),
        ("info", lambda p: change(p, 4, b"\xff\xff\xff\xff"), "has -1 dimensions of sizes none"),
        ("info", lambda p: p.write_bytes(p.read_bytes() + b"x"), "bytes after"),
        ("cat", lambda p: change(p, 20, b"\x05"), "row 0: category must be from 0 to 4, got 5"),
        ("info", lambda p: change(p, 28, b"\x03"), "azimuth must be even and from 0 to 34, got 3"),
        ("info", lambda p: shutil.copy(p.parent / f"{TESTING}-info.mat", p),
         "info.mat, row 0: instance must be one of 4, 6, 7, 8, 9 in the training file, got 0"),
        ("info", lambda p: p.unlink(), "lacks smallnorb-.*training-info.mat .or .gz"),
        ("cat", lambda p: p.write_bytes(b"\x1f\x8b\x08x"), "is a broken gzip file"),
    ],
)  # fmt: skip
def test_norb_files_that_are_not_right(tmp_path, what, damage, message):
    folder = write_norb(tmp_path)
    damage(folder / f"{TRAINING}-{what}.mat")
    with pytest.raises(DataError, match=message):
        small_norb(folder).splits()


def test_cars(cars, tmp_path):
    data = Cars3D(cars, size=16, test_classes=1, valid=0.125, cache=tmp_path)
    train, valid, test = data.splits()
    assert data.label_names == ("car_001", "car_002", "car_003")
    assert [len(train), len(valid), len(test)] == [168, 24, 96]
    assert not set(test.labels.tolist()) & set(train.labels.tolist())
    for split in (train, valid, test):
        assert split.value_range == (0.0, 1.0)
        assert (split.images == split.images[:, :, :1, :1]).all()
        red, green, blue = split.images[:, :, 0, 0].long().unbind(1)
        assert torch.equal(red, 10 * (split.labels + 1))
        assert torch.equal(split.content, green // 20 * 24 + blue // 5)
        factors = torch.stack([green // 20, blue // 5, split.labels], dim=1)
        assert torch.equal(split.factors, factors)
        angle = blue.float() / 5 * math.radians(15)
        wanted = torch.stack([green / 60, angle.cos(), angle.sin()], dim=1)
        torch.testing.assert_close(split.targets, wanted, atol=1e-6, rtol=0)
    assert data.factor_names == ("elevation", "azimuth", "model")
    assert data.factor_sizes == (4, 24, 3)


def test_held_out_images_of_all_cars(cars, tmp_path):
    splits = Cars3D(cars, size=8, test_classes=0, cache=tmp_path).splits()
    assert len(splits.test) == 29
    assert len(splits.test.labels.unique()) == 3


def test_cars_without_a_list_and_prepared(tmp_path, cars):
    folder = write_cars(tmp_path / "cars", 2, listed=False)
    said = []
    Cars3D(folder, size=8, test_classes=["car_002"], cache=tmp_path).prepare(say=said.append)
    assert said == [f"Cars3D: 96 + 0 + 96 images ready in {tmp_path}"]
    with pytest.raises(DataError, match="Cars3D is not downloaded; leave the mirror https://x out"):
        Cars3D(folder).prepare(mirror="https://x")


def test_cars_that_are_not_right(tmp_path):
    with pytest.raises(DataError, match="does not exist; put the folder data/cars"):
        Cars3D(tmp_path / "nowhere").splits()
    with pytest.raises(DataError, match="has no MATLAB file car_NNN"):
        Cars3D(tmp_path).splits()
    folder = write_cars(tmp_path / "cars", 2)
    data = {"folder": folder, "size": 8, "test_classes": 1, "cache": tmp_path}
    with pytest.raises(DataError, match="test_classes: no class 'car_004'; did you mean car_00"):
        Cars3D(**data | {"test_classes": ["car_004"]}).splits()
    second = folder / "car_002_mesh.mat"
    scipy.io.savemat(second, {"im": np.zeros((128, 128, 3, 24), np.uint8)})
    with pytest.raises(
        DataError, match=r"car_002_mesh.mat: the array im has shape \(128, 128, 3, "
    ):
        Cars3D(**data).splits()
    scipy.io.savemat(second, {"mask": np.zeros(3)})
    with pytest.raises(DataError, match=r"car_002_mesh.mat cannot be read .*no array im"):
        Cars3D(**data).splits()
    second.write_bytes(b"no matrix")
    with pytest.raises(DataError, match=r"car_002_mesh.mat cannot be read as a model of Cars3D"):
        Cars3D(**data).splits()
    second.unlink()
    with pytest.raises(DataError, match=r"lacks 1 of the 2 models .*car_002_mesh.mat"):
        Cars3D(**data).splits()


def test_cars_without_scipy(cars, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(DataError, match=r"scipy: pip install 'dcorr\[data\]'"):
        Cars3D(cars, size=8, test_classes=1, cache=tmp_path).splits()


def test_dsprites(dsprites, tmp_path):
    data = DSprites(dsprites, cache=tmp_path)
    splits = data.splits()
    assert data.label_names == ("square", "ellipse", "heart")
    assert [len(split) for split in splits] == [76, 10, 10]
    images = all_rows(splits, "images")
    assert images.unique().tolist() == [0, 255]
    numbers = torch.tensor([dsprites_number(image.numpy()) for image in images])
    assert sorted(numbers.tolist()) == list(range(96))
    assert torch.equal(all_rows(splits, "labels"), numbers // 32)
    assert torch.equal(all_rows(splits, "content"), numbers % 32)
    shape, scale, orientation, x, y = ((t * 2 - 2).long() for t in all_rows(splits, "targets").T)
    assert torch.equal((((shape * 2 + scale) * 4 + orientation) * 2 + x) * 2 + y, numbers)
    assert data.factor_names == ("shape", "scale", "orientation", "x", "y")
    assert data.factor_sizes == (3, 2, 4, 2, 2)
    factors = torch.stack([shape, scale, orientation, x, y], dim=1)
    assert torch.equal(all_rows(splits, "factors"), factors)


def test_dsprites_classes_of_several_factors(dsprites, tmp_path):
    data = DSprites(
        dsprites, classes=["scale", "shape"], images=48, test_classes=["heart, scale 1"],
        cache=tmp_path,
    )  # fmt: skip
    splits = data.splits()
    assert data.label_names[:3] == ("square, scale 0", "square, scale 1", "ellipse, scale 0")
    assert all_rows(splits, "labels").bincount().tolist() == [8] * 6
    assert splits.test.labels.tolist() == [5] * 8
    numbers = torch.tensor([dsprites_number(i.numpy()) for i in all_rows(splits, "images")])
    assert torch.equal(all_rows(splits, "labels"), numbers // 16)
    assert torch.equal(all_rows(splits, "content"), numbers % 16)


def test_dsprites_that_are_not_right(tmp_path):
    path = tmp_path / "dsprites.npz"
    with pytest.raises(DataError, match=r"there is no file .*dsprites.npz; put dSprites' release"):
        DSprites(path).splits()
    path.write_bytes(b"PK no archive")
    with pytest.raises(DataError, match="cannot be read as dSprites' archive: File is not a zip"):
        DSprites(path).splits()
    for replaced, message in (
        (
            {"imgs": np.zeros((96, 32, 32), np.uint8)},
            r"imgs has shape \(96, 32, 32\) and",
        ),
        ({"imgs": np.full((96, 64, 64), 255, np.uint8)}, "pixels must be 0 or 1, got 255"),
        ({"latents_values": np.zeros((96, 5))}, r"have shapes \(96, 6\) and \(96, 5\), wanted"),
        ({"latents_classes": np.full((96, 6), 3)}, "shapes of up to 2, got 3 and 3"),
    ):
        write_dsprites(path, **replaced)
        with pytest.raises(DataError, match=message):
            DSprites(path, cache=tmp_path).splits()
    np.savez(path, imgs=np.zeros(3))
    with pytest.raises(DataError, match="no item named 'latents_classes"):
        DSprites(path, cache=tmp_path).splits()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SmallNORB(size=97), "size must be from 1 to 96, got 97"),
        (lambda: SmallNORB(camera="left"), "camera must be one of class, content, neither"),
        (lambda: SmallNORB(test_classes=3), "test_classes is for the split class"),
        (lambda: SmallNORB("nowhere").splits(), "put the six files of the release there"),
        (lambda: Cars3D(size=0), "size must be from 1 to 128, got 0"),
        (lambda: DSprites(classes=["colour"]), "dSprites has no factor 'colour'"),
        (lambda: DSprites(classes=[]), "classes must be some of shape, scale"),
        (lambda: DSprites(images=0), "images must be 1 or more, got 0"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(DataError, match=message):
        make()
