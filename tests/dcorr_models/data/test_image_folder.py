from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dcorr_models.cli import main
from dcorr_models.data import ImageFolder
from dcorr_models.errors import DataError, RunError
from dcorr_models.pictures import read_image_file
from tests.dcorr_models.toy import toy_cdnet

HEADER = "file,Eyeglasses,Smiling"


def write_image(path: Path, number: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(number).randint(0, 256, size=(20, 31, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_table(folder: Path, *lines: str, header: str = HEADER) -> Path:
    """A folder with a table of these lines, and every image that they name."""
    folder.mkdir(exist_ok=True)
    for number, line in enumerate(lines):
        if name := line.split(",")[0].strip():
            write_image(folder / name, number)
    (folder / "labels.csv").write_text("\n".join([header, *lines]) + "\n")
    return folder


def attribute_lines(count: int) -> list[str]:
    return [f"{n}.png,{n % 2},{n // 2 % 2}" for n in range(count)]


def source(folder: Path, **options) -> ImageFolder:
    return ImageFolder(**({"folder": folder, "size": 8, "cache": folder / ".cache"} | options))


def test_a_table_of_attributes(tmp_path):
    made = source(write_table(tmp_path, *attribute_lines(20)), csv="labels.csv")
    splits = made.splits()
    assert [len(split) for split in splits] == [16, 2, 2]
    assert made.multilabel
    assert made.label_names == ("Eyeglasses", "Smiling")
    assert splits.train.labels.dtype == torch.float32
    rows = torch.cat([split.labels for split in splits]).tolist()
    assert sorted(rows) == sorted([float(n % 2), float(n // 2 % 2)] for n in range(20))


def test_images_are_prepared_as_the_users_own_are(tmp_path):
    folder = write_table(tmp_path, *attribute_lines(10))
    for channels, signed in ((3, True), (1, False)):
        made = source(folder, csv="labels.csv", channels=channels, signed=signed)
        split = made.splits().train
        wanted = {
            read_image_file(path, (channels, 8, 8)).mul(255).round().to(torch.uint8)
            for path in folder.glob("*.png")
        }
        assert split.value_range == ((-1.0, 1.0) if signed else (0.0, 1.0))
        assert split.images.shape == (8, channels, 8, 8)
        for image in split.images:
            assert any(torch.equal(image, other) for other in wanted)


def test_images_and_labels_stay_together(tmp_path):
    folder = write_table(tmp_path, *attribute_lines(12))
    splits = source(folder, csv="labels.csv").splits()
    images = torch.cat([split.images for split in splits])
    labels = torch.cat([split.labels for split in splits])
    for n in range(12):
        wanted = read_image_file(folder / f"{n}.png", (3, 8, 8)).mul(255).round()
        (row,) = np.flatnonzero([torch.equal(image.float(), wanted) for image in images])
        assert labels[row].tolist() == [n % 2, n // 2 % 2]


def test_plus_and_minus_one_and_chosen_attributes(tmp_path):
    folder = write_table(tmp_path, "a.png, 1,-1,split", header="file,Bald,Hat,Young")
    (folder / "labels.csv").write_text("file,Bald,Hat,Young\na.png, 1,-1,1\n")
    made = source(folder, csv="labels.csv", attributes=["Young", "Hat"], valid=0, test=0)
    assert made.splits().train.labels.tolist() == [[1.0, 0.0]]
    with pytest.raises(DataError, match=r"no attribute 'Yuong'; did you mean Young"):
        source(folder, csv="labels.csv", attributes=["Yuong"]).splits()


def test_a_column_split(tmp_path):
    lines = ["a.png,train,1", "b.png,test,0", "c.png,val,0", "d.png,valid,1", "e.png,train,0"]
    folder = write_table(tmp_path, *lines, header="image,split,Smiling")
    splits = source(folder, csv="labels.csv").splits()
    assert [split.labels.flatten().tolist() for split in splits] == [[1, 0], [0, 1], [0]]


def test_a_column_class(tmp_path):
    lines = [f"{n}.png,{('cat', 'ant', 'dog')[n % 3]}" for n in range(30)]
    made = source(write_table(tmp_path, *lines, header="file,class"), csv="labels.csv")
    splits = made.splits()
    assert made.label_names == ("ant", "cat", "dog")
    assert not made.multilabel
    assert [split.labels.bincount().tolist() for split in splits] == [[8] * 3, [1] * 3, [1] * 3]


def test_folders_as_classes(tmp_path):
    for n in range(20):
        write_image(tmp_path / ("cat", "dog")[n % 2] / "deeper" / f"{n}.JPG", n)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    made = source(tmp_path, test=0.2)
    splits = made.splits()
    assert made.label_names == ("cat", "dog")
    assert [split.labels.bincount().tolist() for split in splits] == [[7, 7], [1, 1], [2, 2]]
    assert splits.train.labels.dtype == torch.int64


def test_folders_as_splits_and_classes(tmp_path):
    for n, part in enumerate(["train", "train", "train", "test"]):
        write_image(tmp_path / part / ("cat", "dog")[n % 2] / f"{n}.png", n)
    splits = source(tmp_path).splits()
    assert [split.labels.tolist() for split in splits] == [[0, 0, 1], [], [1]]


def test_the_seed_chooses_the_splits(tmp_path):
    folder = write_table(tmp_path, *attribute_lines(40))
    first, again, other = (source(folder, csv="labels.csv", seed=s).splits() for s in (0, 0, 1))
    assert torch.equal(first.train.images, again.train.images)
    assert not torch.equal(first.train.images, other.train.images)


def test_broken_images(tmp_path, capsys):
    folder = write_table(tmp_path, *attribute_lines(10))
    whole = (folder / "3.png").read_bytes()
    (folder / "3.png").write_bytes(whole[:-200])
    (folder / "4.png").write_text("text")
    with pytest.raises(
        DataError, match=r"[34]\.png (cannot be read|is not an image).*skip_corrupt"
    ):
        source(folder, csv="labels.csv").splits()
    with pytest.raises(DataError, match=r"2 broken images of 10 \(3\.png, 4\.png\)"):
        source(folder, csv="labels.csv").check_files()
    splits = source(folder, csv="labels.csv", skip_corrupt=True).splits()
    assert sum(map(len, splits)) == 8
    assert "skipped 2 of 10 images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("header", "line", "message"),
    [
        (HEADER, "b.png,1", "line 3: wanted 3 columns"),
        (HEADER, "b.png,1,2", "line 3: Smiling must be 0 or 1, or -1 or 1, got '2'"),
        (HEADER, "b.png,1,", "line 3: Smiling must be 0 or 1"),
        (HEADER, "a.png,1,1", "line 3: a.png stands in line 2 already"),
        (HEADER, "./a.png,1,1", "line 3: ./a.png stands in line 2 already"),
        (HEADER, ",1,1", "line 3: no file name"),
        ("z.png,1,0", "b.png,1,1", "line 1: wanted a header with the attributes' names, got"),
        ("file,Smiling,split", "b.png,1,later", "line 3: split must be train"),
        ("file,Smiling,Smiling", "b.png,1,1", "line 1: the column 'Smiling' comes twice"),
        ("file,,Smiling", "b.png,1,1", "line 1: column 2 is unnamed"),
        ("file,class,Smiling", "b.png,1,1", "line 1: there is a column class, and .*Smiling"),
        ("file", "b.png", "line 1: wanted the header"),
        ("file;Smiling", "b.png;1", "line 1: wanted the header"),
        ("file,split", "b.png,train", "line 1: there is no column of labels"),
    ],
)
def test_tables_that_are_not_right(tmp_path, header, line, message):
    folder = write_table(tmp_path, "a.png,0,1")
    first = "a.png,0,train" if "split" in header else "a.png,0,1"
    (folder / "labels.csv").write_text(f"{header}\n{first}\n{line}\n")
    with pytest.raises(DataError, match=message):
        source(folder, csv="labels.csv").splits()


def test_a_line_without_its_class(tmp_path):
    folder = write_table(tmp_path, "a.png,cat", "b.png,", header="file,class")
    with pytest.raises(DataError, match="line 3: no class"):
        source(folder, csv="labels.csv").splits()


def test_attributes_of_classes(tmp_path):
    folder = write_table(tmp_path, "a.png,cat", "b.png,dog", header="file,class")
    with pytest.raises(DataError, match=r"attributes are chosen, but .* has classes"):
        source(folder, csv="labels.csv", attributes=["Smiling"]).splits()


def test_splits_beside_something_else(tmp_path):
    for part in ("train", "Test"):
        write_image(tmp_path / part / "cat" / "1.png")
    with pytest.raises(DataError, match="has the folder train, and Test beside it"):
        source(tmp_path).splits()


def test_missing_things(tmp_path):
    with pytest.raises(DataError, match=r"no folder of images"):
        source(tmp_path / "nothing").splits()
    with pytest.raises(DataError, match=r"no table of labels"):
        source(tmp_path, csv="labels.csv").splits()
    with pytest.raises(DataError, match=r"there is no image; wanted a folder for each class"):
        source(tmp_path).splits()
    folder = write_table(tmp_path, *attribute_lines(9))
    for n in (2, 5):
        (folder / f"{n}.png").unlink()
    with pytest.raises(DataError, match=r"lacks 2 of 9 images \(2\.png, 5\.png\)"):
        source(folder, csv="labels.csv").splits()
    (folder / "labels.csv").write_text(HEADER + "\n")
    with pytest.raises(DataError, match=r"names no image"):
        source(folder, csv="labels.csv").splits()
    (folder / "labels.csv").write_bytes(b"\xff\xff\n")
    with pytest.raises(DataError, match=r"cannot be read as a CSV file"):
        source(folder, csv="labels.csv").splits()


def test_a_name_that_is_no_text(tmp_path):
    write_image(tmp_path / "a" / "1.png")
    try:
        (tmp_path / "a" / os.fsdecode(b"caf\xe9.png")).write_bytes(b"")
    except (OSError, UnicodeError):
        pytest.skip("this file system has no such names")
    with pytest.raises(DataError, match=r"the name 'a/caf\\udce9\.png' is not UTF-8: rename it"):
        source(tmp_path).splits()


def test_an_empty_class_and_nothing_to_train_on(tmp_path):
    write_image(tmp_path / "test" / "cat" / "1.png")
    with pytest.raises(DataError, match=r"no image is left to train on"):
        source(tmp_path).splits()
    (tmp_path / "test" / "dog").mkdir()
    with pytest.raises(DataError, match=r"the class dog has no image"):
        source(tmp_path).splits()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size must be"),
        ({"channels": 4}, "channels 1 or 3"),
        ({"valid": 0.5, "test": 0.5}, "leave something to train on"),
        ({"valid": -0.1}, "leave something to train on"),
        ({"test": float("nan")}, "leave something to train on"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_wrong_arguments(tmp_path, options, message):
    with pytest.raises(DataError, match=message):
        source(tmp_path, **options)


def test_names_come_from_the_table_when_a_run_is_loaded(tmp_path):
    from dcorr_models.experiment import train

    folder = write_table(tmp_path / "images", *[f"{n}.png,{n % 4}" for n in range(60)],
                         header="file,class")  # fmt: skip
    data = source(folder, csv="labels.csv", size=12, channels=1, signed=False)
    method = toy_cdnet(batch_size=24, label_steps=2, steps=2)
    train(method, data, tmp_path / "run")
    assert method.label_names == ("0", "1", "2", "3")
    settings = data.settings()["init_args"]
    assert settings["csv"] == "labels.csv"


@pytest.mark.parametrize("header", ["file,Smiling,Bald", "file,Bald,Smiling,Hat"])
def test_a_table_that_changed_after_the_training_is_no_source_of_names(tmp_path, header):
    from dcorr_models.experiment import load_run, train

    networks = {"label_encoder": None, "decoder": None, "residual_encoder": None}
    lines = [f"{n}.png,{n % 2},{n // 2 % 2}" for n in range(60)]
    folder = write_table(tmp_path / "images", *lines, header="file,Bald,Smiling")
    data = source(folder, csv="labels.csv", size=12, channels=1, signed=False)
    method = toy_cdnet(
        batch_size=24, label_steps=2, steps=2, num_labels=2, multilabel=True,
        discriminator=None, **networks,
    )  # fmt: skip
    train(method, data, tmp_path / "run")
    assert load_run(tmp_path / "run").method.label_names == ("Bald", "Smiling")
    more = ",1" if header.endswith("Hat") else ""
    (folder / "labels.csv").write_text("\n".join([header, *(line + more for line in lines)]))
    with pytest.raises(RunError, match="other labels than when it was trained: 2 then"):
        load_run(tmp_path / "run")


def test_prepare(tmp_path, capsys):
    folder = write_table(tmp_path, *attribute_lines(10))
    words = ["prepare", "--data", "ImageFolder", "--data.folder", str(folder), "--data.csv",
             "labels.csv", "--data.size", "8", "--data.cache", str(folder / ".cache")]  # fmt: skip
    assert main([*words, "--verify"]) == 0
    said = capsys.readouterr().out
    assert "all 10 images are whole" in said
    assert "8 + 1 + 1 images ready" in said
    assert main([*words, "--mirror", "http://localhost"]) == 2
