from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from dcorr_models.data import LabelledImages, Splits
from dcorr_models.errors import UserError
from dcorr_models.evaluation import AttributeProtocol, evaluate
from dcorr_models.methods import Method
from dcorr_models.methods.base import Codes
from dcorr_models.training.stage import Stage
from tests.dcorr_models.toy import ToyAttributes, ToyImages, toy_cdnet

QUICK = AttributeProtocol(svm_repeats=2, classifier_epochs=3)


class Quadrants(Method):
    """Reads the light of the first three quadrants, and paints it: exact by construction.

    Args:
        reads: the label code is what is there; otherwise what an edit adds, 0 for every image.
        label_code: False leaves the label code out.
    """

    def __init__(self, *, reads: bool = True, label_code: bool = True) -> None:
        super().__init__()
        self.image_shape, self.num_labels, self.multilabel = (1, 12, 12), 3, True
        self.reads, self.has_label_code = reads, label_code
        self.infers_attributes = reads
        self.anchor = nn.Parameter(torch.zeros(()))
        self.largest_batch = 0

    def stages(self) -> list[Stage]:
        return []

    def encode(self, images: Tensor) -> Codes:
        self.largest_batch = max(self.largest_batch, len(images))
        if not self.label_code_is_read():
            width = self.num_labels if self.has_label_code else 0
            return Codes(images.new_zeros(len(images), width), images.flatten(1))
        present = (self.quadrants(images).mean(dim=(2, 3)) > 0.45).float()
        return Codes(present, (images - self.light(present)).flatten(1))

    def decode(self, codes: Codes) -> Tensor:
        images = codes.residual.unflatten(1, self.image_shape)
        return images + self.light(codes.label) if self.has_label_code else images

    def label_code_is_read(self) -> bool:
        return self.reads and self.has_label_code

    def quadrants(self, images: Tensor) -> Tensor:
        return torch.stack(
            [images[:, 0, r : r + 6, c : c + 6] for r, c in ((0, 0), (0, 6), (6, 0))], dim=1
        )

    def light(self, amounts: Tensor) -> Tensor:
        image = amounts.new_zeros(len(amounts), 1, 12, 12)
        for k, (r, c) in enumerate(((0, 0), (0, 6), (6, 0))):
            image[:, 0, r : r + 6, c : c + 6] = amounts[:, k, None, None] * 180 / 255
        return image


@pytest.fixture(scope="module")
def splits() -> Splits:
    return ToyAttributes(train=400).splits()


@pytest.fixture(scope="module")
def result(splits):
    method = Quadrants()
    method.label_names = ToyAttributes().label_names
    return evaluate(method, splits, attributes=QUICK)


class TestAttributes:
    def test_a_perfect_method(self, result):
        assert result["kind"] == "attributes"
        assert result["reconstruction"]["rmse"]["mean"] < 1e-6
        assert result["soft_target"]["per_attribute"] == [1.0] * 3
        assert result["soft_target"]["names"] == ["Eyeglasses", "Smiling", "Mustache"]
        for curve in result["svm"]["attributes"].values():
            assert curve["error"][-1] == 0.0
            assert curve["unedited"] == 1.0
        assert result["svm"]["intensities"] == pytest.approx([0.3 * k for k in range(1, 11)])
        assert result["edits"]["matrix"] == torch.eye(3).tolist()
        assert result["edits"]["values"] == [0.0, 1.0]
        assert result["leakage"]["linear_probe"] < 0.75
        assert 0 < result["leakage"]["dcor"] < 1

    def test_the_report_can_draw_it(self, result):
        assert set(result["svm"]["attributes"]) == {"Eyeglasses", "Smiling", "Mustache"}
        for curve in result["svm"]["attributes"].values():
            assert len(curve["error"]) == len(curve["std"]) == len(result["svm"]["intensities"])
        names, matrix = result["edits"]["names"], result["edits"]["matrix"]
        assert [len(row) for row in matrix] == [len(names)] * len(names)
        assert json.loads(json.dumps(result, allow_nan=False)) == result

    def test_the_seed_decides(self, splits, result):
        method = Quadrants()
        method.label_names = ToyAttributes().label_names
        torch.manual_seed(9)
        before = torch.get_rng_state()
        again = evaluate(method, splits, attributes=QUICK)
        assert torch.equal(before, torch.get_rng_state())
        for key in result.keys() - {"seconds"}:
            assert again[key] == result[key], key

    def test_added_intensities(self, splits):
        """No encoder of labels: nothing to score it by, and edits take away with -1."""
        found = evaluate(Quadrants(reads=False), splits, attributes=QUICK)
        assert "soft_target" not in found
        assert found["leakage"]["dcor"] is None
        assert found["leakage"]["linear_probe"] == 1.0
        assert found["edits"]["values"] == [-1.0, 1.0]
        assert found["edits"]["matrix"] == torch.eye(3).tolist()
        assert list(found["svm"]["attributes"]) == ["0", "1", "2"]

    def test_without_a_label_code(self, splits):
        found = evaluate(Quadrants(label_code=False), splits, attributes=QUICK)
        assert not found.keys() & {"svm", "edits", "soft_target", "editing"}
        assert found["leakage"]["dcor"] is None
        assert found["reconstruction"]["images"] == 48

    def test_a_single_class_is_left_out_by_name_with_the_reason(self, splits):
        train = LabelledImages(splits.train.images, splits.train.labels.clone())
        test = LabelledImages(splits.test.images, splits.test.labels.clone())
        train.labels[:, 1], test.labels[:, 2] = 0, 1
        method = Quadrants()
        method.label_names = ("a", "b", "c")
        found = evaluate(method, Splits(train, splits.valid, test), attributes=QUICK)
        assert found["svm"]["skipped"] == {
            "b": "none of the 400 training images has it",
            "c": "no test image is without it",
        }
        assert list(found["svm"]["attributes"]) == ["a"]
        assert found["edits"]["names"] == ["a", "c"]
        assert found["leakage"]["names"] == ["a"]
        assert found["leakage"]["skipped"]["c"] == "all of the 48 test codes have it"

    def test_nothing_can_be_measured(self, splits):
        labels = torch.zeros_like
        train, test = (LabelledImages(s.images, labels(s.labels)) for s in (splits[0], splits[2]))
        found = evaluate(Quadrants(), Splits(train, splits.valid, test), attributes=QUICK)
        for group in ("leakage", "svm", "edits"):
            assert list(found[group]) == ["skipped"]
            assert len(found[group]["skipped"]) == 3

    def test_options_count(self, splits):
        method = Quadrants()
        method.label_names = ("a", "b", "c")
        protocol = AttributeProtocol(
            names=["c"],
            intensities=[0.0, 1.0],
            values=(-0.5, 2.0),
            svm_test_images=7,
            svm_repeats=1,
            svm_train_images=30,
            edit_images=11,
            classifier_images=60,
            classifier_epochs=1,
            probe_images=100,
            dcor_images=20,
        )
        found = evaluate(method, splits, attributes=protocol)
        assert found["svm"]["attributes"]["c"]["images"] == 7
        assert found["svm"]["attributes"]["c"]["train_images"] == 60
        assert found["svm"]["mean_errors"] == [1.0, 0.0]
        assert found["edits"]["names"] == ["c"]
        assert found["edits"]["values"] == [-0.5, 2.0]
        assert (found["edits"]["images"], found["edits"]["classifier_images"]) == (11, 60)
        assert (found["leakage"]["train_samples"], found["leakage"]["dcor_samples"]) == (100, 20)

    def test_an_unknown_name(self, splits):
        method = Quadrants()
        method.label_names = ToyAttributes().label_names
        with pytest.raises(UserError, match="no attribute 'Eyeglases': did you mean 'Eyeglasses'"):
            evaluate(method, splits, attributes=AttributeProtocol(names=["Eyeglases"]))

    def test_a_method_that_makes_no_images(self, splits):
        method = Quadrants()
        torch.nn.init.constant_(method.anchor, torch.nan)
        method.light = lambda amounts: method.anchor.expand(len(amounts), 1, 12, 12)
        with pytest.raises(UserError, match="images of this Quadrants hold NaN or infinity"):
            evaluate(method, splits, attributes=QUICK)

    def test_training_flags_come_back(self, splits):
        method = Quadrants(label_code=False).train()
        evaluate(method, splits, attributes=QUICK)
        assert method.training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"svm_repeats": 0}, "svm_repeats must be 1 or more, got 0"),
        ({"classifier_images": 1}, "classifier_images must be 2 or more, got 1"),
        ({"svm_penalty": 0.0}, "svm_penalty must be above 0"),
        ({"svm_penalty": float("inf")}, "svm_penalty must be above 0 and finite"),
        ({"names": []}, "names is empty"),
        ({"names": ["Smiling", "Smiling"]}, "names has 'Smiling' twice"),
        ({"intensities": [1.0, 1.0]}, "intensities must be finite and rise"),
        ({"intensities": [0.0, float("nan")]}, "intensities must be finite and rise"),
        ({"intensities": [0.0, 1e39]}, "intensities must be finite and rise"),
        ({"values": (0.0, 1e39)}, "values must be finite"),
        ({"intensities": []}, "intensities must be finite and rise"),
        ({"values": (0.0, float("inf"))}, "values must be finite"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(UserError, match=message):
        AttributeProtocol(**options)


class TestClasses:
    def test_keys(self):
        found = evaluate(toy_cdnet(), ToyImages().splits())
        assert found["kind"] == "classes"
        assert found.keys() == {
            "format", "kind", "split", "num_images", "reconstruction", "leakage", "soft_target",
            "editing", "seconds",
        }  # fmt: skip
        assert found["editing"]["num_edits"] == 3 * 48

    def test_without_a_label_code(self):
        method = Quadrants(label_code=False)
        found = evaluate(method, ToyImages().splits())
        assert found.keys() & {"soft_target", "editing"} == set()
        assert found["leakage"]["dcor"] is None
        assert found["leakage"]["linear_probe"] > 0.9

    def test_other_data_than_it_was_trained_on(self, splits):
        with pytest.raises(UserError, match="CDNet was trained on exclusive classes, and these"):
            evaluate(toy_cdnet(), splits)
        with pytest.raises(UserError, match="Quadrants was trained on attributes, and these data"):
            evaluate(Quadrants(), ToyImages().splits())

    def test_no_test_image(self):
        splits = ToyImages().splits()
        empty = LabelledImages(splits.test.images[:0], splits.test.labels[:0])
        with pytest.raises(UserError, match="no image to measure on"):
            evaluate(toy_cdnet(), splits._replace(test=empty))

    def test_options_for_attributes_are_refused(self):
        with pytest.raises(UserError, match="exclusive classes: leave the options"):
            evaluate(toy_cdnet(), ToyImages().splits(), attributes=QUICK)
