from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dcorr_models.data import ClassFolders
from dcorr_models.errors import DataError


def grey(person: int, pose: int, light: int) -> int:
    return 60 * person + 10 * pose + 3 * light


def write_folders(folder, people=("ann", "bob", "cem"), poses: int = 4, inner: str = "d4"):
    """A folder for each person, with an image of each pose under two lights."""
    for number, person in enumerate(people):
        (folder / person / inner).mkdir(parents=True)
        for pose in range(poses):
            for light in range(2):
                level = grey(number, pose, light)
                picture = Image.fromarray(np.full((12, 10, 3), level, dtype=np.uint8))
                picture.save(folder / person / inner / f"pose{pose}_light{light}.png")
    return folder


def source(folder, **options) -> ClassFolders:
    return ClassFolders(**({"folder": folder, "size": 8, "cache": folder / ".cache"} | options))


def files_of(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))


def test_held_out_images(tmp_path):
    data = source(write_folders(tmp_path), valid=0.125, test=0.25)
    splits = data.splits()
    assert data.label_names == ("ann", "bob", "cem")
    assert not data.multilabel
    assert [len(split) for split in splits] == [15, 3, 6]
    assert splits.test.labels.bincount().tolist() == [2, 2, 2]
    for split in splits:
        assert split.value_range == (0.0, 1.0)
        assert split.content is None
        assert split.targets is None
        assert torch.equal(split.images[:, 0, 0, 0].long() // 60, split.labels)


def test_held_out_classes_and_contents_from_names(tmp_path):
    data = source(
        write_folders(tmp_path),
        test_classes=["bob"],
        content_pattern=r"pose(\d)_light(\d)",
        channels=1,
        signed=True,
    )
    train, valid, test = data.splits()
    assert data.content_names == tuple(f"{pose} {light}" for pose in range(4) for light in range(2))
    assert [len(train), len(valid), len(test)] == [16, 0, 8]
    assert test.labels.tolist() == [1] * 8
    assert train.value_range == (-1.0, 1.0)
    for split in (train, test):
        level = split.images[:, 0, 0, 0].long() - 60 * split.labels
        assert torch.equal(split.content, level // 10 * 2 + level % 10 // 3)


def test_a_pattern_does_not_see_the_class(tmp_path):
    folder = write_folders(tmp_path, people=("pose7", "pose8"))
    data = source(folder, content_pattern="pose[0-9]")
    assert data.content_names == ("pose0", "pose1", "pose2", "pose3")
    with pytest.raises(DataError, match=r"content_pattern 'pose\[4-9\]' is not in 16 of 16 names"):
        source(folder, content_pattern="pose[4-9]").splits()


def test_contents_and_targets_from_a_table(tmp_path):
    folder = write_folders(tmp_path)
    lines = ["file,content,eye,mouth", "somebody/else.png,x,0,0"]
    for row, file in enumerate(files_of(folder)[::-1]):
        lines.append(f"{file},pose {file[-12]},{row},{-row}")
    (folder / "contents.csv").write_text("\n".join(lines))
    data = source(folder, contents="contents.csv")
    train = data.splits().train
    assert data.content_names == ("pose 0", "pose 1", "pose 2", "pose 3")
    assert data.target_names == ("eye", "mouth")
    level = train.images[:, 0, 0, 0].long() - 60 * train.labels
    assert torch.equal(train.content, level // 10)
    row = 23 - (train.labels * 8 + level // 10 * 2 + level % 10 // 3)
    assert torch.equal(train.targets, torch.stack([row, -row], dim=1).float())


def test_targets_without_contents(tmp_path):
    folder = write_folders(tmp_path)
    lines = [f"{file},1.5" for file in files_of(folder)]
    (folder / "marks.csv").write_text("\n".join(["file,eye", *lines]))
    train = source(folder, contents=folder / "marks.csv").splits().train
    assert train.content is None
    assert train.targets.unique().tolist() == [1.5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[:-2], r"has no line for 2 of 24 images \(cem/d4/pose3_light0.png"),
        (lambda lines: [*lines, lines[1]], "line 26: ann/d4/.* stands in line 2 already"),
        (lambda lines: [lines[0], lines[1] + ",1", *lines[2:]], "line 2: wanted 3 columns"),
        (lambda lines: [lines[0], lines[1].replace(",a,", ",,"), *lines[2:]], "line 2: no content"),
        (lambda lines: [lines[0], lines[1][:-1] + "x", *lines[2:]], "eye must be a number, got 'x"),
        (lambda lines: [lines[0], lines[1][:-1] + "nan", *lines[2:]], "eye must be a number, got"),
        (lambda lines: ["file", *lines[1:]], "line 1: wanted a header, file names, then content"),
    ],
)
def test_tables_that_are_not_right(tmp_path, change, message):
    folder = write_folders(tmp_path)
    lines = ["file,content,eye", *(f"{file},a,1" for file in files_of(folder))]
    (folder / "contents.csv").write_text("\n".join(change(lines)))
    with pytest.raises(DataError, match=message):
        source(folder, contents="contents.csv").splits()


def test_folders_of_splits(tmp_path):
    write_folders(tmp_path / "train", people=("ann", "bob"))
    write_folders(tmp_path / "test", people=("cem",))
    data = source(tmp_path, content_pattern="pose[0-9]")
    train, valid, test = data.splits()
    assert data.label_names == ("ann", "bob", "cem")
    assert [len(train), len(valid), len(test)] == [16, 0, 8]
    assert test.labels.unique().tolist() == [2]
    with pytest.raises(DataError, match="leave test_classes out"):
        source(tmp_path, test_classes=1).splits()


def test_classes_with_one_image(tmp_path, capsys):
    folder = write_folders(tmp_path)
    for path in [*(folder / "bob").rglob("*.png")][1:]:
        path.unlink()
    with pytest.raises(DataError, match=r"single training image: bob \(1 in all\).*skip_single"):
        source(folder).splits()
    data = source(folder, skip_single=True)
    assert len(data.splits().train) == 14
    assert data.label_names == ("ann", "cem")
    assert data.splits().train.labels.unique().tolist() == [0, 1]
    assert "left out the classes with a single image: bob (1 in all)" in capsys.readouterr().err


def test_a_broken_image_keeps_contents_in_step(tmp_path):
    folder = write_folders(tmp_path)
    (folder / "ann" / "d4" / "pose2_light0.png").write_bytes(b"broken")
    options = {"content_pattern": r"pose(\d)", "test": 0.25}
    with pytest.raises(DataError, match=r"pose2_light0.png is not an image"):
        source(folder, **options).splits()
    splits = source(folder, skip_corrupt=True, **options).splits()
    assert sum(map(len, splits)) == 23
    for split in splits:
        level = split.images[:, 0, 0, 0].long() - 60 * split.labels
        assert torch.equal(split.content, level // 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"contents": "a.csv", "content_pattern": "x"}, "both say the contents: leave one out"),
        ({"content_pattern": "("}, "content_pattern '.' is no regular expression"),
        ({"test_classes": -2}, "test_classes must be 0 or more, got -2"),
        ({"test_classes": 3}, "test_classes asks for 3 of 3 classes"),
        ({"test_classes": ["dan"]}, "no class 'dan'"),
        ({"contents": "none.csv"}, "there is no table of labels none.csv"),
        ({"folder": Path("nowhere")}, "there is no folder of classes nowhere"),
    ],
)
def test_wrong_arguments(tmp_path, options, message):
    write_folders(tmp_path, poses=1)
    with pytest.raises(DataError, match=message):
        source(**{"folder": tmp_path, "test": 0.0} | options).splits()
