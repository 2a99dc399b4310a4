from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from dcorr_models.data import LabelledImages
from dcorr_models.metrics.attribute_recognition import (
    edit_effects,
    predict_attributes,
    train_attribute_classifier,
)
from tests.dcorr_models.metrics.blocks import NAMES, blocks, painted

TRAIN, TEST = blocks(400), blocks(90, seed=1)
# 8 rows are the least that the pooling leaves something of
TALL_TRAIN, TALL_TEST = (
    LabelledImages(d.images.repeat_interleave(2, dim=2), d.labels) for d in (TRAIN, TEST)
)


@pytest.fixture(scope="module")
def classifier():
    return train_attribute_classifier(TALL_TRAIN, held_out=TALL_TEST, epochs=8)


def made(rows: Tensor, amounts: Tensor) -> Tensor:
    return painted(TEST, rows, amounts).repeat_interleave(2, dim=2)


def same(rows: Tensor) -> Tensor:
    return made(rows, TEST.labels[rows])


def effects(classifier, flip, **options):
    settings = {"names": NAMES} | options
    return edit_effects(classifier, TEST.labels, same, flip, **settings)


def perfect(rows: Tensor, column: int) -> Tensor:
    amounts = TEST.labels[rows].clone()
    amounts[:, column] = 1 - amounts[:, column]
    return made(rows, amounts)


def test_a_classifier_learns(classifier):
    assert classifier.accuracy == [1.0] * 3
    assert classifier.balanced_accuracy == [1.0] * 3
    assert (classifier.train_images, classifier.held_out_images) == (400, 90)
    assert not classifier.network.training
    assert not any(p.requires_grad for p in classifier.network.parameters())
    seen = predict_attributes(classifier, TALL_TEST.tensors()[0])
    assert torch.equal(seen, TEST.labels.bool())


def test_a_perfect_editor_has_the_identity(classifier):
    result = effects(classifier, perfect)
    assert result["matrix"] == torch.eye(3).tolist()
    assert (result["mean_diagonal"], result["mean_off_diagonal"]) == (1.0, 0.0)
    assert result["reached"] == [1.0] * 3
    assert result["reconstruction_agreement"] == [1.0] * 3
    assert result["names"] == list(NAMES)


def test_an_editor_that_does_nothing_has_zeros(classifier):
    result = effects(classifier, lambda rows, column: same(rows))
    assert result["matrix"] == [[0.0] * 3] * 3
    assert result["reached"] == [0.0] * 3


def test_an_entangled_editor_flips_whole_rows(classifier):
    result = effects(classifier, lambda rows, column: made(rows, 1 - TEST.labels[rows]))
    assert result["matrix"] == [[1.0] * 3] * 3
    assert (result["mean_diagonal"], result["mean_off_diagonal"]) == (1.0, 1.0)


def test_rows_are_edits_and_columns_what_they_change(classifier):
    def drags_right_along(rows: Tensor, column: int) -> Tensor:
        amounts = TEST.labels[rows].clone()
        for k in {column, 2} if column == 0 else {column}:
            amounts[:, k] = 1 - amounts[:, k]
        return made(rows, amounts)

    result = effects(classifier, drags_right_along)
    assert result["matrix"] == [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    assert result["mean_off_diagonal"] == pytest.approx(1 / 6)


def test_the_baseline_is_the_reconstruction(classifier):
    """A method that loses an attribute in reconstruction already: the edit is not to blame."""

    def lossy(rows: Tensor) -> Tensor:
        return made(rows, TEST.labels[rows] * torch.tensor([1, 1, 0]))

    result = edit_effects(
        classifier, TEST.labels, lossy, lambda rows, column: lossy(rows), names=NAMES
    )
    assert result["matrix"] == [[0.0] * 3] * 3
    absent = (TEST.labels[:, 2] == 0).double().mean().item()
    assert result["reconstruction_agreement"] == pytest.approx([1.0, 1.0, absent])
    # what has it is asked to lose it, and has: reached without a change
    assert result["reached"] == pytest.approx([0.0, 0.0, 1 - absent])


def test_a_choice_of_attributes(classifier):
    result = effects(classifier, perfect, attributes=[2, 0])
    assert (result["names"], result["matrix"]) == (["right", "left"], torch.eye(2).tolist())
    assert effects(classifier, perfect, attributes=[1])["mean_off_diagonal"] is None


def test_the_result_is_json(classifier):
    result = effects(classifier, perfect)
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_the_seed_alone_decides():
    def weights(seed: int) -> list[Tensor]:
        torch.manual_seed(seed + 17)  # must not matter
        made = train_attribute_classifier(TALL_TRAIN, epochs=1, max_images=150, seed=seed // 2)
        assert made.train_images == 150
        return list(made.network.parameters())

    before = torch.get_rng_state()
    one, same_seed, other = weights(0), weights(1), weights(2)
    assert all(torch.equal(a, b) for a, b in zip(one, same_seed, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    train_attribute_classifier(TALL_TRAIN, epochs=1, max_images=50)
    assert torch.equal(before, torch.get_rng_state())


def test_large_colour_images_in_another_range():
    data = blocks(200, channels=3)
    large = LabelledImages(
        data.images.repeat_interleave(16, dim=2).repeat_interleave(6, dim=3)[..., :64],
        data.labels,
        value_range=(-1.0, 1.0),
    )
    made = train_attribute_classifier(large, held_out=large, epochs=10)
    assert min(made.accuracy[:2]) > 0.95  # the third block is cut off


def test_an_attribute_that_all_images_have_is_no_harm():
    labels = TRAIN.labels.clone()
    labels[:, 1] = 1
    data = LabelledImages(TALL_TRAIN.images, labels)
    made = train_attribute_classifier(data, held_out=data, epochs=4)
    assert made.accuracy[1] == 1.0
    assert made.balanced_accuracy[1] is None


FLOAT = TALL_TRAIN
CLASSES = LabelledImages(TRAIN.images, torch.zeros(400, dtype=torch.int64))
FEWER = LabelledImages(TALL_TEST.images, TEST.labels[:, :2])


@pytest.mark.parametrize(
    ("train", "options", "error", "message"),
    [
        (CLASSES, {}, TypeError, "train needs attributes as float32, got torch.int64"),
        (FLOAT, {"epochs": 0}, ValueError, "epochs must be at least 1"),
        (FLOAT, {"held_out": FEWER}, ValueError, "same attributes, got 3 and 2"),
        (FLOAT, {"held_out": TEST}, ValueError, "images of the same size"),
        (LabelledImages(TRAIN.images, TRAIN.labels / 2), {}, ValueError, "0 or 1, got 0.5"),
    ],
)
def test_wrong_training_calls(train, options, error, message):
    with pytest.raises(error, match=message):
        train_attribute_classifier(train, **options)


def test_wrong_edit_calls(classifier):
    with pytest.raises(ValueError, match="finite"):
        effects(classifier, lambda rows, column: same(rows) / 0)
    with pytest.raises(ValueError, match="names must be one an attribute, 3, got 2"):
        effects(classifier, perfect, names=["a", "b"])
    with pytest.raises(ValueError, match="columns from 0 to 2, got -1"):
        effects(classifier, perfect, attributes=[-1])
