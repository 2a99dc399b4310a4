"""3D Chairs, Stanford Cars and CelebA-HQ on small files in the formats of their releases."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image

from dcorr_models.data import CelebAHQ, Chairs3D, StanfordCars
from dcorr_models.data.chairs3d import AZIMUTHS, ELEVATIONS
from dcorr_models.errors import DataError

# chairs: a model is red, an elevation green, an azimuth blue; outside of the crop all is white
MODELS = ("1a", "2b")
FIELDS = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
# cars: file, box, class; the third box is too narrow
TRAIN = [("00001.jpg", (11, 21, 91, 101), 2), ("00002.jpg", (1, 1, 120, 110), 1)]
TEST = [("00001.jpg", (11, 21, 73, 101), 1), ("00002.jpg", (11, 21, 91, 101), 2)]
NAMES = ["AM General Hummer SUV 2000", "Acura RL Sedan 2012"]


def write_chairs(folder: Path, models: tuple[str, ...] = MODELS) -> Path:
    for number, model in enumerate(models):
        (folder / model / "renders").mkdir(parents=True)
        for i, elevation in enumerate(ELEVATIONS):
            for j, azimuth in enumerate(AZIMUTHS):
                picture = Image.new("RGB", (600, 600), "white")
                picture.paste((60 * number, 100 * i, 8 * j), (75, 75, 525, 525))
                name = f"image_{32 * i + j:03d}_p{elevation:03d}_t{azimuth:03d}_r096.png"
                picture.save(folder / model / "renders" / name, compress_level=1)
    (folder / "all_chair_names.mat").write_bytes(b"not read")
    return folder


@pytest.fixture(scope="module")
def chairs(tmp_path_factory):
    return write_chairs(tmp_path_factory.mktemp("chairs"))


@pytest.fixture(scope="module")
def chairs_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def test_chairs_show_what_their_factors_say(chairs, chairs_cache):
    data = Chairs3D(chairs, size=8, valid=0.1, test=0.2, cache=chairs_cache)
    splits = data.splits()
    assert [len(split) for split in splits] == [87, 12, 25]
    assert data.label_names == MODELS
    assert data.factor_names == ("elevation", "azimuth", "model")
    assert data.factor_sizes == (2, 31, 2)
    for split in splits:
        elevation, azimuth, model = split.factors.unbind(1)
        colour = torch.stack([60 * model, 100 * elevation, 8 * azimuth], dim=1)
        # the filter reaches over the crop's edge only as far as the crop goes: all of it is flat
        assert torch.equal(split.images.long(), colour[:, :, None, None].expand(-1, 3, 8, 8))
        assert torch.equal(model, split.labels)
        assert torch.equal(elevation * 31 + azimuth, split.content)
    everything = torch.cat([split.factors for split in splits])
    assert len(everything.unique(dim=0)) == 2 * 62


def test_chairs_of_models_that_test(chairs, chairs_cache):
    splits = Chairs3D(chairs, size=8, test_classes=["2b"], cache=chairs_cache).splits()
    assert splits.test.labels.unique().tolist() == [1]
    assert [len(split) for split in splits] == [62, 0, 62]


def test_chairs_names_are_those_of_the_release():
    assert AZIMUTHS[:6] == (0, 11, 23, 34, 46, 58)
    assert AZIMUTHS[-3:] == (325, 336, 348)
    assert len(AZIMUTHS) == 31


def test_chairs_that_are_not_right(tmp_path):
    with pytest.raises(DataError, match="nowhere for 3D Chairs does not exist; put its release"):
        Chairs3D(tmp_path / "nowhere").splits()
    with pytest.raises(DataError, match=r"has no image MODEL/renders/image_NNN"):
        Chairs3D(tmp_path).splits()
    folder = write_chairs(tmp_path, ("1a",))
    first = folder / "1a" / "renders" / "image_000_p020_t000_r096.png"
    data = {"folder": folder, "size": 8, "cache": tmp_path / "cache"}
    first.write_bytes(first.read_bytes()[:200])
    with pytest.raises(DataError, match=r"t000_r096.png cannot be read as an image.*prepare --ver"):
        Chairs3D(**data).splits()
    with pytest.raises(DataError, match="1 broken images of 62"):
        Chairs3D(**data).check_files(say=lambda line: None)
    assert sum(map(len, Chairs3D(**data, skip_corrupt=True).splits())) == 61
    Image.new("RGB", (600, 300)).save(first)
    with pytest.raises(DataError, match=r"is 600 x 300 pixels, wanted 450 x 450 or more"):
        Chairs3D(**data).splits()
    first.rename(first.with_name("image_000_p020_t005_r096.png"))
    with pytest.raises(DataError, match=r"t005_r096.png is not named as a view of 3D Chairs"):
        Chairs3D(**data).splits()
    first.with_name("image_000_p020_t005_r096.png").unlink()
    with pytest.raises(DataError, match=r"each model has 62 views, but 1a \(61\) \(1 in all\) not"):
        Chairs3D(**data).splits()


def annotations(rows, *, file: str, labelled: bool = True) -> np.ndarray:
    names = [*FIELDS, *(["class"] if labelled else []), file]
    table = np.zeros((1, len(rows)), dtype=[(name, object) for name in names])
    for place, (name, box, label) in enumerate(rows):
        values = [*box, *([label] if labelled else []), name]
        table[0, place] = tuple(values)
    return table


def write_photograph(path: Path, box: tuple[int, int, int, int], colour: tuple[int, ...]) -> None:
    picture = Image.new("RGB", (120, 110), "white")
    picture.paste(colour, box)
    path.parent.mkdir(exist_ok=True)
    picture.save(path.with_suffix(".png"))
    path.with_suffix(".png").rename(path)  # a name is not looked at, and a JPEG is not exact


def write_cars(folder: Path, form: str) -> Path:
    rows = {"cars_train": TRAIN, "cars_test": TEST}
    for part, images in rows.items():
        for name, box, label in images:
            colour = (100 * label, 50 * (part == "cars_test"), box[2])
            write_photograph(folder / part / name, box, colour)
    if form == "pooled":
        pooled = [(f"{part}/{n}", box, y) for part, images in rows.items() for n, box, y in images]
        table = annotations(pooled, file="relative_im_path")
        names = np.array([NAMES], dtype=object)
        scipy.io.savemat(folder / "cars_annos.mat", {"annotations": table, "class_names": names})
        return folder
    devkit = folder / "devkit"
    devkit.mkdir()
    names = np.array([NAMES], dtype=object)
    scipy.io.savemat(devkit / "cars_meta.mat", {"class_names": names})
    table = annotations(TRAIN, file="fname")
    scipy.io.savemat(devkit / "cars_train_annos.mat", {"annotations": table})
    table = annotations(TEST, file="fname", labelled=form == "labelled")
    name = "../cars_test_annos_withlabels" if form == "labelled" else "cars_test_annos"
    scipy.io.savemat(devkit / f"{name}.mat", {"annotations": table})
    return folder


@pytest.mark.parametrize("form", ["pooled", "labelled", "unlabelled"])
def test_cars_are_cut_along_their_boxes(tmp_path, form):
    data = StanfordCars(write_cars(tmp_path, form), size=16, test=0.0, cache=tmp_path / "cache")
    train, valid, test = data.splits()
    assert [len(train), len(valid), len(test)] == [3, 0, 0]
    found = {
        tuple(image[:, 0, 0].tolist()): data.label_names[label]
        for image, label in zip(train.images, train.labels, strict=True)
    }
    last = "unknown" if form == "unlabelled" else NAMES[1]
    assert found == {(200, 0, 91): NAMES[1], (100, 0, 120): NAMES[0], (200, 50, 91): last}
    assert (train.images == train.images[:, :, :1, :1]).all()
    narrow = StanfordCars(tmp_path, size=16, smallest=62, test=0.0, cache=tmp_path / "cache")
    assert len(narrow.splits().train) == 4
    said: list[str] = []
    narrow.check_files(say=said.append)
    assert said[-1] == "Stanford Cars: all 4 images are whole"


def test_cars_of_other_boxes_are_not_taken_from_the_cache(tmp_path):
    write_cars(tmp_path, "pooled")
    data = {"folder": tmp_path, "size": 16, "test": 0.0, "cache": tmp_path / "cache"}
    before = StanfordCars(**data).splits().train.images
    moved = [(f"cars_train/{TRAIN[0][0]}", (0, 0, 64, 64), 1)]
    names = np.array([NAMES], dtype=object)
    table = {
        "annotations": annotations(moved, file="relative_im_path"),
        "class_names": names,
    }
    scipy.io.savemat(tmp_path / "cars_annos.mat", table)
    after = StanfordCars(**data).splits().train.images
    assert len(before) == 3
    assert len(after) == 1
    assert after.max() == 255


def test_cars_that_are_not_right(tmp_path):
    with pytest.raises(DataError, match=r"lacks cars_annos.mat, and devkit/cars_meta.mat too"):
        StanfordCars(tmp_path).splits()
    write_cars(tmp_path, "labelled")
    data = {"folder": tmp_path, "size": 16, "cache": tmp_path / "cache"}
    path = tmp_path / "devkit" / "cars_train_annos.mat"
    for rows, message in (
        ([("00001.jpg", (91, 21, 11, 101), 2)], "the box of 00001.jpg goes from 91, 21 to 11, 101"),
        ([("00001.jpg", (11, 21, 91, 101), 3)], r"cars_train/00001.jpg is of class 3, and there "),
        ([("00009.jpg", (11, 21, 91, 101), 2)], r"lacks 1 of 2 images \(cars_train/00009.jpg\)"),
        ([("00001.jpg", (11, 21, 131, 101), 2)], "is 120 x 110 pixels, and its box ends at 131, 1"),
    ):
        scipy.io.savemat(path, {"annotations": annotations(rows, file="fname")})
        with pytest.raises(DataError, match=message):
            StanfordCars(**data).splits()
    with pytest.raises(DataError, match="no box of 3 has sides of 500 pixels or more"):
        StanfordCars(**data, smallest=500).splits()
    scipy.io.savemat(path, {"annotations": annotations(TRAIN, file="name")})
    with pytest.raises(DataError, match="annotations have no field fname; unpack"):
        StanfordCars(**data).splits()
    scipy.io.savemat(path, {"other": np.zeros(2)})
    with pytest.raises(DataError, match="it has no array annotations"):
        StanfordCars(**data).splits()
    path.write_bytes(b"no matrix")
    with pytest.raises(DataError, match="cannot be read as annotations of Stanford Cars"):
        StanfordCars(**data).splits()


def test_cars_without_scipy(tmp_path, monkeypatch):
    write_cars(tmp_path, "pooled")
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(DataError, match=r"scipy: pip install 'dcorr\[data\]'"):
        StanfordCars(tmp_path).splits()


def write_faces(folder: Path, count: int = 10, side: int = 32) -> Path:
    (folder / "more").mkdir(parents=True)
    for number in range(count):
        place = folder / "more" if number % 2 else folder
        picture = Image.new("RGB", (side, side), (20 * number, 0, 255))
        picture.save(place / f"{number:05d}.png")
    (folder / "README.txt").write_text("no image")
    return folder


def test_faces_kept_or_decoded_on_the_fly(tmp_path):
    folder = write_faces(tmp_path / "hq")
    data = {"folder": folder, "size": 16, "valid": 0.1, "test": 0.2, "cache": tmp_path / "cache"}
    read, kept = CelebAHQ(**data).splits(), CelebAHQ(**data, keep=True).splits()
    for a, b, count in zip(read, kept, (7, 1, 2), strict=True):
        assert len(a) == len(b) == count
        (images, labels), (others, _) = a.tensors(), b.tensors()
        assert torch.equal(images, others)
        assert images.shape == (count, 3, 16, 16)
        assert labels.tolist() == [0] * count
        assert (images == images[:, :, :1, :1]).all()
    reds = torch.cat([part.tensors()[0][:, 0, 0, 0] for part in read]) * 255
    assert sorted(reds.round().long().tolist()) == [20 * n for n in range(10)]
    with pytest.raises(NotImplementedError):
        read.train.images[0].cpu()
    said: list[str] = []
    CelebAHQ(**data).prepare(say=said.append)
    assert said == ["CelebA-HQ: 7 + 1 + 2 images ready"]
    with pytest.raises(DataError, match="CelebA-HQ is not downloaded; leave the mirror https://x"):
        CelebAHQ(**data).prepare(mirror="https://x")


def test_faces_that_are_not_right(tmp_path):
    with pytest.raises(DataError, match="size must be 1 or more, got 0"):
        CelebAHQ(tmp_path, size=0)
    with pytest.raises(DataError, match="skip_corrupt looks at all files beforehand"):
        CelebAHQ(tmp_path, skip_corrupt=True)
    with pytest.raises(DataError, match=r"has no image \(.jpg, "):
        CelebAHQ(tmp_path).splits()
    write_faces(tmp_path / "hq", 3)
    data = {"folder": tmp_path / "hq", "test": 0.0, "cache": tmp_path / "cache"}
    with pytest.raises(DataError, match=r"hq/.*png is 32 x 32 pixels, wanted a square of 64"):
        CelebAHQ(**data, size=64).splits().train[0]
    (tmp_path / "hq" / "00000.png").write_bytes(b"no image")
    train = CelebAHQ(**data, size=16).splits().train
    with pytest.raises(DataError, match=r"00000.png is not an image in a known format; find all"):
        train.tensors()
    with pytest.raises(DataError, match="1 broken images of 3"):
        CelebAHQ(**data, size=16).check_files(say=lambda line: None)
