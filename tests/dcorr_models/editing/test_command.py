"""`dcorr-models edit` on a run of attributes, as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from dcorr_models import editing
from dcorr_models.experiment import load_run
from tests.dcorr_models.test_cli import refused, run, toy_config

TOY = "tests.dcorr_models.toy."


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("attributes")
    networks = {
        "num_labels": 3,
        "multilabel": True,
        "label_steps": 60,
        "steps": 150,
        "decorrelation_ramp": 20,
        "label_encoder": {"class_path": TOY + "ToyEncoder", "init_args": {"out": 3}},
        "decoder": {"class_path": TOY + "ToyDecoder", "init_args": {"labels": 3}},
    }
    data = {"class_path": TOY + "ToyAttributes"}
    config = toy_config(folder / "toy.yaml", method=networks, data=data, seed=3)
    assert run("train", "--config", config, "--run", folder / "run") == 0
    return folder / "run"


def written(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_run_is_read_back_and_its_edits_do_what_they_say(trained):
    folder, method, data = load_run(trained)
    assert folder.path == trained
    assert not method.training
    assert method.label_names == ("Eyeglasses", "Smiling", "Mustache")
    images, _ = data.splits().test.tensors()
    swept = editing.sweep(method, images, "Smiling", [-1.5, 0.0, 1.0, 3.0])
    # The toy's attribute is the brightness of its quadrant.
    brightness = swept[..., :6, 6:].mean(dim=(0, 2, 3, 4))
    assert torch.equal(brightness, brightness.sort().values)
    assert brightness[3] - brightness[0] > 0.3


def test_values_of_several_attributes(trained, tmp_path, capsys):
    words = ("--set", "{Eyeglasses: 3.0, 1: -0.5}", "--indices", "[5]")
    assert run("edit", trained, *words, "--out", tmp_path / "out") == 0
    assert written(tmp_path / "out") == ["00_test5_as_Eyeglasses_3_1_-0.5.png", "edited.png"]
    assert str(tmp_path / "out" / "edited.png") in capsys.readouterr().out


def test_a_number_that_yaml_takes_for_a_word(trained, tmp_path):
    words = ("--set", "{Smiling: 2e0}", "--indices", "[5]")
    assert run("edit", trained, *words, "--out", tmp_path / "out") == 0
    assert written(tmp_path / "out") == ["00_test5_as_Smiling_2.png", "edited.png"]


def test_own_files_at_each_intensity(trained, tmp_path):
    Image.new("RGB", (300, 200), "white").save(tmp_path / "a.jpg")
    Image.new("L", (9, 50), 0).save(tmp_path / "b.png")
    files = f"[{tmp_path / 'a.jpg'}, {tmp_path / 'b.png'}]"
    words = ("--attribute", "Mustache", "--intensities", "[-1.5, 3]", "--images", files)
    assert run("edit", trained, *words, "--out", tmp_path / "out") == 0
    assert written(tmp_path / "out") == [
        "00_a_as_Mustache_-1.5.png",
        "00_a_as_Mustache_3.png",
        "01_b_as_Mustache_-1.5.png",
        "01_b_as_Mustache_3.png",
        "edited.png",
    ]


def test_five_intensities_and_every_attribute_by_default(trained, tmp_path):
    for name, words in (("a", ("--attribute", "Smiling")), ("b", ())):
        assert run("edit", trained, *words, "--indices", "[0]", "--out", tmp_path / name) == 0
    assert len(written(tmp_path / "a")) == 1 + 5
    assert len(written(tmp_path / "b")) == 1 + 3


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--set", "{Eyglasses: 1}"], "did you mean 'Eyeglasses'"),
        (["--set", "{Smiling: .nan}"], "must be a finite number, got '.nan'"),
        (["--set", "{Smiling: yes}"], "must be a finite number, got 'yes'"),
        (["--set", "{Smiling: much}"], "must be a finite number, got 'much'"),
        (["--set", "{Smiling: nan}"], "must be a finite number, got nan"),
        (["--set", "{Smiling: 1, Smiling: 2}"], "--set names 'Smiling' twice"),
        (["--set", "{Smiling: [1]}"], "--set takes attributes and values"),
        (["--set", "{No: 1}"], "no attribute 'No'"),
        (["--set", "{Smiling: 12:30}"], "must be a finite number, got '12:30'"),
        (["--set", "{Smiling}"], "must be a finite number, got ''"),
        (["--set", "{}"], "nothing to edit"),
        (["--set", "Smiling"], "--set takes attributes and values"),
        (["--set", "{"], "--set takes attributes and values"),
        (["--set", "{Smiling: 1}", "--attribute", "Smiling"], "two ways to edit"),
        (["--target", "Smiling", "--attribute", "Smiling"], "two ways to edit"),
        (["--target", "Smiling"], "trained on attributes"),
        (["--attribute", "Smile"], "did you mean 'Smiling'"),
        (["--attribute", "9"], "numbered from 0 to 2"),
        (["--attribute", "Smiling", "--intensities", "[]"], "no intensities"),
        (["--attribute", "Smiling", "--intensities", "[.inf]"], "finite number, got inf"),
        (["--attribute", "Smiling", "--intensities", "[1e39]"], "finite number, got 1e+39"),
        (["--attribute", "Smiling", "--intensities", "[a]"], "intensities"),
        (["--intensities", "[1]"], "name it with --attribute"),
        (["--attribute", "Smiling", "--images", f"[{__file__}]"], "not an image"),
    ],
)
def test_impossible_edits_are_one_line_and_write_nothing(
    trained, tmp_path, capsys, words, expected
):
    out = tmp_path / "nothing"
    assert expected in refused(capsys, "edit", trained, "--out", out, *words)
    assert not out.exists()


def test_the_report_of_a_run_of_attributes(trained):
    assert run("report", trained) == 0
    html = (trained / "report.html").read_text()
    assert "Attributes from weak to strong" in html
