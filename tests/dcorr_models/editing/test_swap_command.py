"""`dcorr-models edit` and `evaluate` on a run of class and content codes, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from dcorr_models.pictures import grid, read_image_file
from tests.dcorr_models.editing.test_command import written
from tests.dcorr_models.test_cli import refused, run
from tests.dcorr_models.toy import ToyContents

TOY = "tests.dcorr_models.toy."


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("swap")
    config = {
        "method": {"class_path": TOY + "ToyClassContent"},
        "data": {"class_path": TOY + "ToyContents", "init_args": {"test_classes": 2}},
    }
    (folder / "toy.yaml").write_text(yaml.safe_dump(config))
    assert run("train", "--config", folder / "toy.yaml", "--run", folder / "run") == 0
    return folder / "run"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    """Class b with content 3, and class f with content 1."""
    folder = tmp_path_factory.mktemp("files")
    images, _ = ToyContents(copies=1).splits().train.tensors()
    paths = [folder / "one.png", folder / "other.png"]
    for path, row in zip(paths, (7, 21), strict=True):
        grid([[images[row]]]).save(path)
    return paths


def level(path: Path) -> float:
    """Brightness of the upper half, which is the class."""
    return 255 * read_image_file(path, (1, 12, 12))[0, :6].mean().item()


def test_own_files_in_pairs(trained, files, tmp_path):
    words = ("--class_of", f"[{files[0]}]", "--content_of", f"[{files[0]}, {files[1]}]")
    assert run("edit", trained, *words, "--out", tmp_path / "out") == 0
    assert written(tmp_path / "out") == [
        "class_of_one_content_of_one.png",
        "class_of_one_content_of_other.png",
        "edited.png",
    ]
    made = tmp_path / "out" / "class_of_one_content_of_other.png"
    assert level(made) == pytest.approx(30, abs=2)  # class b, not f


def test_files_among_themselves(trained, files, tmp_path):
    words = ("--images", f"[{files[0]}, {files[1]}]")
    assert run("edit", trained, *words, "--out", tmp_path / "out") == 0
    assert len(written(tmp_path / "out")) == 5


def test_test_images_stand_for_what_is_left_out(trained, files, tmp_path):
    for name, words, count in (
        ("class", ("--class_of", f"[{files[0]}]", "--indices", "[0, 3]"), 2),
        ("content", ("--content_of", f"[{files[0]}]"), 5),
        ("both", (), 25),
    ):
        assert run("edit", trained, *words, "--out", tmp_path / name) == 0
        assert len(written(tmp_path / name)) == count + 1
    assert "class_of_one_content_of_test3.png" in written(tmp_path / "class")


def test_a_class_by_its_name(trained, tmp_path):
    words = ("--target", "d", "--indices", "[0, 7]")
    assert run("edit", trained, *words, "--out", tmp_path / "out") == 0
    assert written(tmp_path / "out") == ["00_test0_as_d.png", "01_test7_as_d.png", "edited.png"]
    assert level(tmp_path / "out" / "01_test7_as_d.png") == pytest.approx(90, abs=2)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--target", "h"], "no code for the classes h: the method has not learned them"),
        (["--target", "z"], "no class 'z'"),
        (["--set", "{a: 1}"], "describes a class by a vector"),
        (["--attribute", "a"], "describes a class by a vector"),
        (["--target", "a", "--class_of", "[x.png]"], "are two ways to edit"),
        (["--images", "[x.png]", "--class_of", "[x.png]"], "--images give both class and content"),
        (["--class_of", "[x.png]"], "no image at x.png"),
        (["--indices", "[99]"], "index 99 is outside the 8 test images"),
    ],
)
def test_refusals(trained, capsys, words, expected):
    assert expected in refused(capsys, "edit", trained, *words)


def test_evaluate(trained, capsys):
    words = ("--transfer.probe_steps", 5, "--transfer.distance", "l1", "--transfer.pairs", 9)
    assert run("evaluate", trained, *words) == 0
    assert "probes.class_from_content.accuracy: " in capsys.readouterr().out
    found = json.loads((trained / "evaluation.json").read_text())
    assert found["kind"] == "class_content"
    assert found["probes"]["class_from_content"]["steps"] == 5
    line = refused(capsys, "evaluate", trained, "--transfer.probe_steps", 0)
    assert "probe_steps must be 1 or more, got 0" in line
