from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import Tensor

from dcorr_models.data import LabelledImages
from dcorr_models.metrics import linear_svm
from dcorr_models.metrics.linear_svm import Sampling, pixels_of, train_svms
from dcorr_models.metrics.svm_editing import svm_editing
from tests.dcorr_models.metrics.blocks import NAMES, blocks, painted

TRAIN, TEST = blocks(300), blocks(90, seed=1)
LEVELS = [0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0]


def editor(test: LabelledImages):
    """Writes the intensity into the attribute's block; all else stays."""

    def edit(rows: Tensor, column: int, intensity: float) -> Tensor:
        amounts = test.labels[rows].clone()
        amounts[:, column] = intensity
        return painted(test, rows, amounts)

    return edit


def measure(train=TRAIN, test=TEST, edit=None, **options):
    settings: dict = {"names": NAMES, "intensities": LEVELS} | options
    return svm_editing(train, test, edit or editor(test), **settings)


@pytest.mark.parametrize("standardise", [True, False])
@pytest.mark.parametrize("balanced", [True, False])
def test_errors_fall_from_one_to_zero(standardise, balanced):
    result = measure(standardise=standardise, balanced=balanced)
    assert list(result["attributes"]) == list(NAMES)
    for name, curve in result["attributes"].items():
        assert curve["error"][0] == 1.0
        assert curve["error"][-1] == 0.0
        assert all(np.diff(curve["error"]) <= 0)
        assert curve["accuracy"] == 1.0
        assert curve["balanced_accuracy"] == 1.0
        assert curve["images"] == (TEST.labels[:, NAMES.index(name)] == 0).sum()
    assert result["mean_errors"][0] == 1.0
    assert result["mean_error"] == 0.0
    assert result["mean_accuracy"] == 1.0


def test_an_editor_that_does_nothing_has_the_error_of_reconstructions():
    def same(rows: Tensor, *_: object) -> Tensor:
        return TEST.__getitems__(rows.tolist())["image"]

    result = measure(edit=same, reconstruct=same)
    for curve in result["attributes"].values():
        assert curve["error"] == [1.0] * len(LEVELS)
        assert curve["unedited"] == 1.0


def test_colour_images_in_another_range_give_the_same():
    options = {"value_range": (-1.0, 1.0), "channels": 3}
    train, test = blocks(300, **options), blocks(90, seed=1, **options)
    for curve in measure(train, test)["attributes"].values():
        assert (curve["error"][0], curve["error"][-1], curve["accuracy"]) == (1.0, 0.0, 1.0)


@pytest.mark.parametrize("pool", [4000, 40])
def test_the_solution_is_that_of_the_svm_on_pixels(pool, monkeypatch):
    """Both solvers stop within 1e-3 of the margin; so near the planes have to be."""
    from sklearn.svm import SVC

    monkeypatch.setattr(linear_svm, "_POOL", pool)
    noisy = blocks(120, seed=5)
    noisy.labels[:15, 0] = 1 - noisy.labels[:15, 0]  # not separable
    sampling = Sampling(repeats=1, max_per_side=None, balanced=False, penalty=0.01)
    svms = train_svms(noisy, [0, 1, 2], sampling, names=NAMES)
    pixels = pixels_of(noisy, torch.arange(120)).double()
    z = (pixels - pixels.mean(dim=0)) / pixels.std(dim=0, correction=0)
    for column, ours in enumerate(svms):
        oracle = SVC(C=0.01, kernel="linear", tol=1e-8).fit(z, noisy.labels[:, column])
        decision = pixels @ ours.weights[:, 0] + ours.biases[0]
        np.testing.assert_allclose(decision, oracle.decision_function(z), atol=5e-3)
        assert ours.train_images == 120


def test_balanced_draws_and_their_number():
    rare = blocks(300)
    rare.labels[:, 1] = 0
    rare.labels[:7, 1] = 1
    svms = train_svms(rare, [0, 1], Sampling(max_per_side=50), names=NAMES)
    assert [s.train_images for s in svms] == [100, 14]
    assert svms[0].weights.shape == (48, 5)
    # different images in each repeat
    assert not torch.equal(svms[0].weights[:, 0], svms[0].weights[:, 1])


def test_a_constant_pixel_has_no_say():
    train = blocks(100)
    train.images[..., 0, 0] = 17
    svm = train_svms(train, [0], Sampling(repeats=1), names=NAMES)[0]
    assert svm.weights[0, 0] == 0
    assert svm.weights.isfinite().all()


def test_the_spread_is_over_the_svms():
    # learnt from two images each, the SVMs disagree about edits half way
    result = measure(max_per_side=1, repeats=7)
    assert max(max(curve["std"]) for curve in result["attributes"].values()) > 0
    assert measure(max_per_side=1, repeats=1)["attributes"]["left"]["std"] == [0.0] * len(LEVELS)


def test_fewer_test_images_and_attributes():
    asked = []

    def edit(rows: Tensor, column: int, intensity: float) -> Tensor:
        asked.append((column, rows.tolist()))
        return editor(TEST)(rows, column, intensity)

    result = measure(edit=edit, attributes=[2], max_test_images=5)
    assert list(result["attributes"]) == ["right"]
    assert result["attributes"]["right"]["images"] == 5
    first = torch.nonzero(TEST.labels[:, 2] == 0)[:5, 0].tolist()
    assert all(call == (2, first) for call in asked)


def test_the_seed_decides_and_global_random_states_rest():
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    one, same, other = (measure(max_per_side=2, seed=seed) for seed in (3, 3, 4))
    assert one == same
    assert one["attributes"] != other["attributes"]
    assert torch.equal(states[0], torch.get_rng_state())
    np.testing.assert_array_equal(states[1], np.random.get_state()[1])  # noqa: NPY002


def test_the_result_is_json_and_says_its_settings():
    result = measure(repeats=2, penalty=0.5, seed=9)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    settings = ("intensities", "repeats", "penalty", "standardised", "balanced", "seed")
    assert [result[key] for key in settings] == [LEVELS, 2, 0.5, True, True, 9]
    default = svm_editing(TRAIN, TEST, editor(TEST), names=NAMES, repeats=1)["intensities"]
    assert default == pytest.approx([0.3 * k for k in range(1, 11)])


def with_labels(data: LabelledImages, column: int, value: float) -> LabelledImages:
    labels = data.labels.clone()
    labels[:, column] = value
    return LabelledImages(data.images, labels)


def nan_edit(rows: Tensor, column: int, intensity: float) -> Tensor:
    return torch.full((len(rows), 1, 4, 12), torch.nan)


CLASSES = LabelledImages(TRAIN.images, torch.zeros(300, dtype=torch.int64))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"train": with_labels(TRAIN, 1, 0)}, ValueError, "'middle': none of the 300 training"),
        ({"train": with_labels(TRAIN, 1, 1)}, ValueError, "'middle': all of the 300 training"),
        ({"test": with_labels(TEST, 2, 1)}, ValueError, "'right': all of the 90 test .* to edit"),
        ({"train": with_labels(TRAIN, 2, torch.nan)}, ValueError, "must be 0 or 1, got nan"),
        ({"train": CLASSES}, TypeError, "train need attributes as floating point"),
        ({"edit": nan_edit}, ValueError, "images must be finite"),
        ({"edit": lambda rows, *_: TEST.tensors()[0]}, ValueError, r"edit must return .* \(\d+,"),
        ({"intensities": [1.0, 0.5]}, ValueError, "intensities must rise"),
        ({"intensities": []}, ValueError, "intensities must rise"),
        ({"intensities": [0.0, torch.nan]}, ValueError, "intensities must rise"),
        ({"names": ["a"]}, ValueError, "names must be one an attribute, 3, got 1"),
        ({"attributes": [3]}, ValueError, "columns from 0 to 2, got 3"),
        ({"attributes": []}, ValueError, "columns from 0 to 2, got none"),
        ({"test": blocks(9, channels=3)}, ValueError, "images of the same size"),
    ],
)
def test_wrong_calls(options, error, message):
    with pytest.raises(error, match=message):
        measure(**options)


def test_an_unbalanced_draw_of_a_single_class_is_refused_by_name():
    rare = with_labels(TRAIN, 0, 0)
    rare.labels[0, 0] = 1
    with pytest.raises(ValueError, match="'left': none of the 4 training images drawn"):
        measure(rare, balanced=False, max_per_side=2)
