"""`dcorr-models evaluate` and what reads its file, on a run of a method of attributes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.dcorr_models.test_cli import TOY, refused, run, toy_config
from tests.dcorr_models.test_report import Page

QUICK = ("--attributes.svm_repeats", 2, "--attributes.classifier_epochs", 2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("attributes")
    networks = {
        "label_encoder": {"class_path": TOY + "ToyEncoder", "init_args": {"out": 3}},
        "decoder": None,  # the architecture's own
    }
    config = toy_config(
        folder / "toy.yaml",
        method={"num_labels": 3, "multilabel": True, **networks},
        data={"class_path": TOY + "ToyAttributes"},
    )
    assert run("train", "--config", config, "--run", folder / "run") == 0
    return folder / "run"


def test_evaluate_and_report(trained, capsys):
    assert run("evaluate", trained, *QUICK, "--attributes.intensities", "[0.5,2]") == 0
    printed = capsys.readouterr().out
    assert "svm.mean_error: " in printed
    assert "svm.attributes" not in printed
    assert "edits.mean_diagonal: " in printed
    found = json.loads((trained / "evaluation.json").read_text())
    assert found["svm"]["intensities"] == [0.5, 2.0]
    assert found["svm"]["repeats"] == 2
    assert list(found["svm"]["attributes"]) == ["Eyeglasses", "Smiling", "Mustache"]
    assert run("report", trained) == 0
    page = Page((trained / "report.html").read_text()).text
    assert "Edits that SVMs miss" in page
    assert "Read from z, linear, by attribute" in page


def test_refusals(trained, capsys):
    line = refused(capsys, "evaluate", trained, "--attributes.names", "[Smilng]")
    assert "no attribute 'Smilng': did you mean 'Smiling'?" in line
    line = refused(capsys, "evaluate", trained, "--attributes.svm_repeats", "0")
    assert "svm_repeats must be 1 or more, got 0" in line
    line = refused(capsys, "evaluate", trained, "--attributes.intensities", "[2,1]")
    assert "intensities must be finite and rise" in line
    line = refused(capsys, "evaluate", trained, "--attributes.dcor_images", "1")
    assert "dcor_images must be 2 or more, got 1" in line
    few = ("--attributes.svm_balanced", "false", "--attributes.svm_train_images", 1)
    line = refused(capsys, "evaluate", trained, *few)
    assert "of the 2 training images drawn ha" in line
    assert "draw more (svm_train_images)" in line
