"""Evaluation of class and content codes whose every number is known."""

from __future__ import annotations

import json

import pytest
import torch

from dcorr_models.data import LabelledImages, Splits
from dcorr_models.errors import UserError
from dcorr_models.evaluation import AttributeProtocol, ClassContentProtocol, evaluate
from tests.dcorr_models.toy import ToyAttributes, ToyClassContent, ToyContents, ToyImages, toy_cdnet

QUICK = ClassContentProtocol(distance="l1", pairs=40, probe_steps=60, target_unit="bar")


def measured(data: ToyContents, method: ToyClassContent, protocol=QUICK, **options):
    return evaluate(method, data.splits(), transfer=protocol, **options)


@pytest.fixture(scope="module")
def result():
    return measured(ToyContents(), ToyClassContent())


def test_a_perfect_method(result):
    assert result["kind"] == "class_content"
    assert result["reconstruction"]["rmse"]["mean"] < 1 / 255
    for name, chance in (("class_from_content", 1 / 8), ("content_from_class", 1 / 4)):
        found = result["probes"][name]
        assert found["chance"] == chance
        assert found["accuracy"] == pytest.approx(chance, abs=0.15)
        assert (found["train_samples"], found["test_samples"], found["left_out"]) == (128, 32, 0)
    assert result["probes"]["held_out"] == "test"
    assert result["probes"]["content_codes"] == "encoded"
    assert result["leakage"]["dcor"] < result["leakage"]["dcor_shuffled"]
    assert "collapse" not in result
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_a_perfect_transfer(result):
    found = result["transfer"]
    assert (found["distance"], found["matched_by"], found["pairs"]) == ("pixel L1", "content", 40)
    assert found["transfer"]["mean"] < 1.01 / 255
    assert found["reconstruction"]["mean"] < 1.01 / 255
    # either input as it is would be far off
    assert min(found["class_image"]["mean"], found["content_image"]["mean"]) > 10 / 255


def test_transfer_by_the_nearest_targets():
    splits = ToyContents().splits()
    test = LabelledImages(splits.test.images, splits.test.labels, targets=splits.test.targets)
    found = evaluate(ToyClassContent(), splits._replace(test=test), transfer=QUICK)["transfer"]
    assert found["matched_by"] == "targets"
    assert found["transfer"]["mean"] < 1.01 / 255


def test_a_distance_without_weights_is_refused_before_the_measuring(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError, match="weights"):
        measured(ToyContents(), ToyClassContent(), ClassContentProtocol(distance="lpips_alex"))


def test_targets_are_read_from_the_content_code_alone(result):
    found = result["regression"]
    assert found["content_code"]["mean_absolute"] < 0.05
    assert found["content_code"]["unit"] == "bar"
    assert found["class_code"]["mean_absolute"] == pytest.approx(1.0, abs=0.1)
    assert found["class_code"]["mean_absolute_unread"] == 1.0  # of 0, 1, 2, 3 about 1.5


def test_a_leak_is_found():
    standardised = ClassContentProtocol(distance="l1", probe_steps=200, probe_standardised=True)
    found = measured(ToyContents(copies=8), ToyClassContent(leaks=True), standardised)
    assert found["probes"]["class_from_content"]["accuracy"] > 0.4  # chance is 1 / 8
    assert found["probes"]["class_from_content"]["standardised"] is True
    assert found["leakage"]["dcor"] > found["leakage"]["dcor_shuffled"]


@pytest.mark.parametrize(("valid", "split", "images"), [(True, "valid", 24), (False, "train", 24)])
def test_test_classes_of_their_own(valid, split, images):
    """The probes are scored on images of training classes that they have not seen."""
    splits = ToyContents(test_classes=2).splits()
    none = LabelledImages(splits.valid.images[:0], splits.valid.labels[:0])
    if not valid:
        splits = Splits(splits.train, none, splits.test)
    share = ClassContentProtocol(distance="l1", probe_steps=2, probe_share=0.25)
    found = evaluate(ToyClassContent(), splits, transfer=share)["probes"]
    assert found["held_out"] == split
    assert found["class_from_content"]["classes"] == 6
    assert found["class_from_content"]["test_samples"] == images
    assert found["class_from_content"]["train_samples"] == (96 if valid else 72)


def test_data_without_contents_and_targets():
    found = measured(ToyContents(known=False), ToyClassContent())
    assert found["probes"]["skipped"] == {
        "content_from_class": "the data do not say which content an image shows"
    }
    assert "content_from_class" not in found["probes"]
    assert found["probes"]["class_from_content"]["chance"] == 1 / 8
    assert list(found["regression"]) == list(found["transfer"]) == ["skipped"]
    assert "no content labels" in found["transfer"]["skipped"]["transfer"]


def test_contents_that_no_probe_has_learnt_are_left_out():
    splits = ToyContents().splits()
    rows = (splits.train.content < 2).nonzero()[:, 0]
    train = LabelledImages(
        splits.train.images[rows], splits.train.labels[rows], content=splits.train.content[rows]
    )
    found = evaluate(ToyClassContent(), splits._replace(train=train), transfer=QUICK)["probes"]
    assert found["content_from_class"]["left_out"] == 16
    assert found["content_from_class"]["test_samples"] == 16


def test_collapse_and_drawn_codes():
    method = ToyClassContent(variational=True)
    found = measured(ToyContents(), method)
    assert (found["collapse"]["at_prior"], found["collapse"]["dimensions"]) == (1, 5)
    assert found["collapse"]["samples"] == 32
    method.probes_read_samples = True
    drawn = measured(ToyContents(), method)
    assert drawn["probes"]["content_codes"] == "drawn"
    # the draws are noisier than the means, and as noisy as the posterior says
    error, exact = (r["regression"]["content_code"]["mean_absolute"] for r in (drawn, found))
    assert exact < error < 0.3


def test_the_seed_decides(result):
    torch.manual_seed(9)
    before = torch.get_rng_state()
    again = measured(ToyContents(), ToyClassContent())
    assert torch.equal(before, torch.get_rng_state())
    assert {**again, "seconds": 0} == {**result, "seconds": 0}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"probe_steps": 0}, "probe_steps must be 1 or more"),
        ({"pairs": 0}, "pairs must be 1 or more"),
        ({"probe_images": 1}, "probe_images must be 2 or more"),
        ({"probe_share": 1.0}, "probe_share must lie between 0 and 1"),
        ({"collapse_tolerance": 0.0}, "collapse_tolerance must lie between 0 and 1"),
    ],
)
def test_protocol(options, words):
    with pytest.raises(UserError, match=words):
        ClassContentProtocol(**options)


def test_options_of_another_kind_of_method():
    with pytest.raises(UserError, match=r"CDNet has no class and content codes.*--transfer"):
        evaluate(toy_cdnet(), ToyImages().splits(), transfer=QUICK)
    with pytest.raises(UserError, match="leave the options that are for attributes out"):
        evaluate(
            ToyClassContent(), ToyContents().splits(), attributes=AttributeProtocol(svm_repeats=2)
        )
    with pytest.raises(UserError, match="trained on exclusive classes, and these data have attr"):
        evaluate(ToyClassContent(), ToyAttributes().splits())


def test_one_class():
    splits = ToyContents().splits()
    rows = splits.train.labels == 0
    train = LabelledImages(splits.train.images[rows], splits.train.labels[rows])
    with pytest.raises(UserError, match="fewer than two classes"):
        evaluate(ToyClassContent(), splits._replace(train=train), transfer=QUICK)
