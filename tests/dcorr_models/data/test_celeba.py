from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from dcorr_models.cli import main
from dcorr_models.data import CelebA
from dcorr_models.data import celeba as module
from dcorr_models.data.celeba_files import ATTRIBUTES
from dcorr_models.data.image_cache import CachedImages
from dcorr_models.data.image_files import cut_splits
from dcorr_models.errors import DataError
from tests.dcorr_models.data.celeba_release import (
    attributes,
    identity,
    jpeg,
    name_of,
    numbers_in,
    write_release,
)

IMAGES = "img_align_celeba"


@pytest.fixture
def folder(tmp_path):
    return write_release(tmp_path / "celeba")


def source(folder: Path, **options) -> CelebA:
    return CelebA(**({"folder": folder, "cache": folder.parent / "cache", "size": 16} | options))


def replace_line(path: Path, number: int, text: str) -> None:
    lines = path.read_text().splitlines()
    lines[number - 1 : number] = [text] if text else []
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("subfolders", [False, True])
def test_the_official_split(tmp_path, zipped, subfolders):
    folder = write_release(tmp_path / "celeba", zipped=zipped, subfolders=subfolders)
    splits = source(folder).splits()
    assert numbers_in(splits.train.images) == list(range(1, 31))
    assert numbers_in(splits.valid.images) == list(range(31, 35))
    assert numbers_in(splits.test.images) == list(range(35, 41))
    labels = torch.cat([split.labels for split in splits])
    assert labels.dtype == torch.float32
    assert labels.tolist() == attributes(40).tolist()
    assert splits.train[0]["image"].shape == (3, 16, 16)
    assert splits.train.value_range == (-1.0, 1.0)


def test_the_papers_split(folder):
    splits = source(folder, split="paper").splits()
    assert [len(split) for split in splits] == [32, 4, 4]
    numbers = [number for split in splits for number in numbers_in(split.images)]
    assert sorted(numbers) == list(range(1, 41))
    assert numbers != list(range(1, 41))
    labels = torch.cat([split.labels for split in splits])
    assert labels.tolist() == attributes(40)[np.array(numbers) - 1].tolist()
    again = source(folder, split="paper").splits()
    other = source(folder, split="paper", seed=1).splits()
    assert numbers_in(again.train.images) == numbers[:32]
    assert numbers_in(other.train.images) != numbers[:32]


def test_all_images_train(folder):
    splits = source(folder, split="all", crop="id_gan", size=128).splits()
    assert [len(split) for split in splits] == [40, 0, 6]
    assert numbers_in(splits.train.images) == list(range(1, 41))
    official = source(folder, crop="id_gan", size=128).splits().test
    assert torch.equal(splits.test.images, official.images)
    assert torch.equal(splits.test.labels, official.labels)


def test_people_who_test_are_in_no_training_image(folder):
    splits = source(folder, split="identity", labels="identity").splits()
    assert [len(split) for split in splits] == [36, 0, 4]  # 2 of 20 people, 2 images each
    train, test = (set(split.labels.tolist()) for split in (splits.train, splits.test))
    assert not train & test
    for split in (splits.train, splits.test):
        assert split.labels.dtype == torch.int64
        assert split.labels.tolist() == [identity(n) - 1 for n in numbers_in(split.images)]


def test_identities_as_classes(folder):
    made = source(folder, labels="identity")
    assert not made.multilabel
    assert len(made.label_names) == 10_177
    assert made.splits().test.labels.tolist() == [17, 17, 18, 18, 19, 19]


def test_chosen_attributes(folder):
    made = source(folder, attributes=["Smiling", "Bald"])
    wanted = attributes(40)[:30][:, [ATTRIBUTES.index("Smiling"), ATTRIBUTES.index("Bald")]]
    assert made.label_names == ("Smiling", "Bald")
    assert made.splits().train.labels.tolist() == wanted.tolist()


def test_decoded_once(folder, monkeypatch):
    first = source(folder).splits().train.images
    monkeypatch.setattr(module, "crop_image", lambda *_: pytest.fail("decoded again"))
    again = source(folder).splits().train.images
    assert torch.equal(first, again)


def test_an_exchanged_file_is_decoded_again(folder):
    source(folder).splits()
    (folder / IMAGES / name_of(3)).write_bytes(jpeg(50))
    assert numbers_in(source(folder).splits().train.images)[2] == 50


def test_a_split_is_not_copied_into_memory():
    images = np.arange(8, dtype=np.uint8).reshape(8, 1, 1, 1)
    parts = [np.array([4, 0, 7]), np.array([2, 1]), np.array([3, 5, 6, 8])]
    splits = cut_splits(CachedImages(images, (1,)), parts, torch.arange(9), (0.0, 1.0))
    assert [split.labels.tolist() for split in splits] == [[4, 7], [2, 1], [3, 5, 6, 8]]
    assert [split.images.flatten().tolist() for split in splits] == [[0, 1], [2, 3], [4, 5, 6, 7]]
    assert all(np.shares_memory(split.images.numpy(), images) for split in splits)


def test_more_images_than_one_process_decodes(tmp_path, monkeypatch):
    """The pool of processes, which fewer than 100 images do not start."""
    from dcorr_models.data import image_files, parallel

    folder = write_release(tmp_path / "celeba", zipped=True)
    alone = source(folder, cache=tmp_path / "alone").splits()
    monkeypatch.setattr(
        image_files, "for_each_row", lambda w, n: parallel.for_each_row(w, n, at_least=1)
    )
    together = source(folder, cache=tmp_path / "together").splits()
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one.images, other.images)


def truncate(folder: Path, number: int) -> None:
    path = folder / IMAGES / name_of(number)
    path.write_bytes(path.read_bytes()[:-400])


def break_images(folder: Path, case: str) -> str:
    path = folder / IMAGES / name_of(7)
    if case == "truncated":
        truncate(folder, 7)
        return r"000007\.jpg cannot be read as an image: .*truncated"
    if case == "text":
        path.write_text("not found")
        return r"000007\.jpg is not an image in a known format"
    if case == "empty":
        path.write_bytes(b"")
        return r"000007\.jpg is not an image in a known format"
    path.write_bytes((folder / IMAGES / name_of(8)).read_bytes())
    from PIL import Image

    Image.new("RGB", (100, 100)).save(path)
    return r"000007\.jpg is 100 x 100 pixels, wanted 178 x 218"


@pytest.mark.parametrize("case", ["truncated", "text", "empty", "size"])
def test_a_broken_image_stops_with_its_name(folder, case):
    message = break_images(folder, case)
    with pytest.raises(DataError, match=message + r".*prepare --verify.*skip_corrupt true"):
        source(folder).splits()
    assert list((folder.parent / "cache").iterdir()) == []
    lines: list[str] = []
    with pytest.raises(DataError, match=r"1 broken images of 40 \(000007\.jpg\)"):
        source(folder).check_files(say=lines.append)
    assert any("000007.jpg" in line for line in lines)


def test_broken_images_are_skipped_with_a_count(folder, capsys):
    for number in (2, 31, 40):
        truncate(folder, number)
    for _ in range(2):  # decoded, and from the cache
        splits = source(folder, skip_corrupt=True).splits()
        said = capsys.readouterr().err
        assert "skipped 3 of 40 images, broken: 000002.jpg, 000031.jpg, 000040.jpg" in said
        numbers = [numbers_in(split.images) for split in splits]
        assert numbers == [[1, *range(3, 31)], [32, 33, 34], [35, 36, 37, 38, 39]]
        labels = torch.cat([split.labels for split in splits])
        rows = np.array([number for part in numbers for number in part]) - 1
        assert labels.tolist() == attributes(40)[rows].tolist()
    with pytest.raises(DataError, match=r"3 broken images"):
        source(folder).splits()


def test_a_repaired_image_comes_back(folder):
    truncate(folder, 2)
    source(folder, skip_corrupt=True).splits()
    (folder / IMAGES / name_of(2)).write_bytes(jpeg(2))
    assert len(source(folder).splits().train) == 30


def test_text_files_as_windows_saves_them(folder):
    before = source(folder).splits().test.labels
    for path in folder.glob("*.txt"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert torch.equal(source(folder).splits().test.labels, before)


def test_an_encrypted_archive(tmp_path):
    folder = write_release(tmp_path / "celeba", zipped=True)
    path = folder / f"{IMAGES}.zip"
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # in the directory's entry of the first image
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"000001\.jpg cannot be unzipped: .*encrypted"):
        source(folder).splits()


def test_partly_extracted_images(folder):
    for number in (3, 17, 25, 40):
        (folder / IMAGES / name_of(number)).unlink()
    message = r"lacks 4 of 40 images \(000003\.jpg, 000017\.jpg, 000025\.jpg, \.\.\.\); unpack"
    with pytest.raises(DataError, match=message):
        source(folder).splits()
    # with --skip-corrupt too: a file that was never there is no broken image
    with pytest.raises(DataError, match=message):
        source(folder, skip_corrupt=True).splits()


def test_a_folder_within_the_folder(folder):
    (folder / IMAGES).rename(folder / "inner")
    (folder / IMAGES).mkdir()
    (folder / "inner").rename(folder / IMAGES / IMAGES)
    assert len(source(folder).splits().train) == 30


def break_zip(path: Path, case: str) -> str:
    if case == "cut":
        path.write_bytes(path.read_bytes()[:-3000])
        return "not a whole zip archive.*fetch it again"
    if case == "empty file":
        path.write_bytes(b"")
        return "not a whole zip archive"
    if case == "empty archive":
        with zipfile.ZipFile(path, "w"):
            pass
        return r"lacks 40 of 40 images \(000001\.jpg"
    content = bytearray(path.read_bytes())
    content[60:200] = bytes(140)
    path.write_bytes(content)
    return r"000001\.jpg cannot be read"


@pytest.mark.parametrize("case", ["cut", "empty file", "empty archive", "flipped bytes"])
def test_broken_archives(tmp_path, case):
    folder = write_release(tmp_path / "celeba", zipped=True)
    message = break_zip(folder / f"{IMAGES}.zip", case)
    with pytest.raises(DataError, match=message):
        source(folder).splits()


@pytest.mark.parametrize(
    ("file", "line", "text", "message"),
    [
        ("list_attr_celeba.txt", 1, "forty", "line 1: wanted the number of images, got 'forty'"),
        ("list_attr_celeba.txt", 1, "41", "line 1 promises 41 images, 40 lines follow"),
        ("list_attr_celeba.txt", 40, "", "line 1 promises 40 images, 39 lines follow"),
        ("list_attr_celeba.txt", 2, "Bald Smilling", "line 2: 'Smilling' .* did you mean Smiling"),
        ("list_attr_celeba.txt", 2, "Bald Smiling", "line 2: wanted CelebA's 40 .* got 2 names"),
        ("list_attr_celeba.txt", 5, "000003.jpg 1 -1", "line 5: wanted a file name and 40 values"),
        ("list_attr_celeba.txt", 5, "000003.jpg" + " 0" * 40, "line 5: wanted .* 1 or -1"),
        ("list_attr_celeba.txt", 5, "000001.jpg" + " 1" * 40, "000001.jpg stands in line 3"),
        ("list_eval_partition.txt", 4, "000002.jpg 0", "line 4: 000002.jpg stands in an earlier"),
        ("list_eval_partition.txt", 4, "000004.jpg \u00b2", "line 4: wanted .* from 0 to 2"),
        ("list_eval_partition.txt", 4, "000004.jpg 3", "line 4: wanted .* from 0 to 2"),
        ("list_eval_partition.txt", 4, "000004.jpg", "line 4: wanted a file name and a number"),
        ("list_eval_partition.txt", 4, "", r"no line for 1 of 40 images \(000004.jpg\)"),
        ("identity_CelebA.txt", 4, "000004.jpg 0", "line 4: wanted .* from 1 to 10177"),
    ],
)
def test_text_files_that_are_not_right(folder, file, line, text, message):
    replace_line(folder / file, line, text)
    with pytest.raises(DataError, match=rf"{file}.*{message}"):
        source(folder, labels="identity").splits()


@pytest.mark.parametrize(
    "file", ["list_attr_celeba.txt", "list_eval_partition.txt", "identity_CelebA.txt"]
)
def test_missing_text_files(folder, file):
    (folder / file).unlink()
    with pytest.raises(DataError, match=rf"lacks {file}"):
        source(folder, labels="identity").splits()


def test_a_text_file_that_is_none(folder):
    (folder / "list_attr_celeba.txt").write_bytes(b"\xff\xfe\x00" * 9)
    with pytest.raises(DataError, match=r"cannot be read as text"):
        source(folder).splits()


def test_no_folder_and_no_images(tmp_path, folder):
    with pytest.raises(DataError, match=r"there is no folder .*--data.folder"):
        source(tmp_path / "nothing").splits()
    (folder / IMAGES).rename(folder / "elsewhere")
    with pytest.raises(DataError, match=r"neither the folder img_align_celeba nor"):
        source(folder).splits()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": "square"}, "crop must be one of cdnet, mddae"),
        ({"labels": "names"}, "labels must be one of"),
        ({"split": "half"}, "split must be one of"),
        ({"size": 0}, "size must be 1 or more"),
        ({"seed": -1}, "seed must be"),
        ({"attributes": ["eyeglases"]}, "did you mean Eyeglasses"),
        ({"attributes": ["Bald"], "labels": "identity"}, "leave one out"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(DataError, match=message):
        CelebA(**options)


def words(folder: Path, *more: str) -> list[str]:
    data = ["--data", "CelebA", "--data.folder", str(folder), "--data.size", "16"]
    return ["prepare", *data, "--data.cache", str(folder.parent / "cache"), *more]


def test_prepare(folder, capsys):
    assert main(words(folder, "--verify")) == 0
    said = capsys.readouterr().out
    assert "all 40 images are whole" in said
    assert "30 + 4 + 6 images ready" in said


def test_prepare_names_broken_files_or_skips_them(folder, capsys):
    truncate(folder, 7)
    assert main(words(folder, "--verify")) == 2
    assert "000007.jpg" in capsys.readouterr().err
    assert not (folder.parent / "cache").exists()
    assert main(words(folder, "--skip-corrupt")) == 0
    assert "skipped 1 of 40 images, broken: 000007.jpg" in capsys.readouterr().out
    assert main(words(folder, "--mirror", "http://localhost")) == 2
    assert "not downloaded" in capsys.readouterr().err


def test_skip_corrupt_needs_files(capsys):
    assert main(["prepare", "--data", "BundledDigits", "--skip-corrupt"]) == 2
    assert "has no files to skip" in capsys.readouterr().err
