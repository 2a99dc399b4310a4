from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from dcorr_models.metrics.leakage import leakage


def labels_of(n: int, classes: int = 5) -> torch.Tensor:
    return torch.arange(n) % classes


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


TRAIN, TEST = labels_of(500), labels_of(200)


def perfect(labels: torch.Tensor) -> torch.Tensor:
    return one_hot(labels, 5).float()


def test_perfect_codes_tell_everything():
    result = leakage(perfect(TRAIN), TRAIN, perfect(TEST), TEST, label_codes=perfect(TEST))
    assert result["linear_probe"] == 1.0
    assert result["mlp_probe"] == 1.0
    assert result["chance"] == 0.2
    assert result["dcor"] == pytest.approx(1.0, abs=1e-9)
    assert result["dcor_shuffled"] < 0.3


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_constant_codes_tell_nothing(value):
    train, test = torch.full((500, 3), value), torch.full((200, 3), value)
    labels = torch.where(torch.arange(500) % 10 < 6, 0, TRAIN)
    test_labels = labels[:200]
    result = leakage(train, labels, test, test_labels, label_codes=perfect(test_labels))
    # the best guess without knowledge is the most frequent class
    assert result["chance"] == (test_labels == 0).double().mean().item()
    assert result["linear_probe"] == result["chance"]
    assert result["mlp_probe"] == result["chance"]
    assert result["dcor"] == 0.0
    assert result["dcor_shuffled"] == 0.0


def test_a_constant_coordinate_changes_nothing():
    codes, test = perfect(TRAIN) + 0.3 * noise(500, 5), perfect(TEST) + 0.3 * noise(200, 5, seed=1)
    plain = leakage(codes, TRAIN, test, TEST)
    codes, test = (torch.cat([c, torch.full((len(c), 1), 0.1)], dim=1) for c in (codes, test))
    assert leakage(codes, TRAIN, test, TEST)["linear_probe"] == plain["linear_probe"]


def test_duplicated_codes_tell_what_one_copy_tells():
    codes, test = perfect(TRAIN) + 0.5 * noise(500, 5), perfect(TEST) + 0.5 * noise(200, 5, seed=1)
    once = leakage(codes, TRAIN, test, TEST, label_codes=perfect(TEST))
    twice = leakage(codes.repeat(1, 2), TRAIN, test.repeat(1, 2), TEST, label_codes=perfect(TEST))
    assert twice["linear_probe"] == pytest.approx(once["linear_probe"], abs=0.02)
    assert twice["mlp_probe"] == pytest.approx(once["mlp_probe"], abs=0.05)
    assert twice["dcor"] == pytest.approx(once["dcor"], abs=1e-9)
    assert twice["dimensions"] == 10


def test_noise_stays_near_chance():
    result = leakage(noise(500, 4), TRAIN, noise(200, 4, seed=1), TEST, label_codes=perfect(TEST))
    # four standard deviations of a share of 1/5 among 200
    assert result["linear_probe"] == pytest.approx(0.2, abs=0.113)
    assert result["mlp_probe"] == pytest.approx(0.2, abs=0.113)
    assert result["dcor"] == pytest.approx(result["dcor_shuffled"], abs=0.05)
    assert result["dcor"] > 0.05


def test_only_the_mlp_sees_what_no_line_separates():
    def xor(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        codes = noise(n, 2, seed=seed)
        return codes, (codes[:, 0] * codes[:, 1] > 0).long()

    (codes, labels), (test, test_labels) = xor(2000, 0), xor(500, 1)
    result = leakage(codes, labels, test, test_labels)
    assert result["linear_probe"] < 0.65
    assert result["mlp_probe"] > 0.95


def test_scores_are_on_the_test_codes():
    # codes that tell the class in training and mislead at the test
    wrong = (TEST + 1) % 5
    result = leakage(perfect(TRAIN), TRAIN, perfect(wrong), TEST)
    assert result["linear_probe"] == 0.0
    assert result["mlp_probe"] == 0.0


def test_shift_and_scale_of_the_codes_do_not_matter():
    codes, test = perfect(TRAIN) + 0.5 * noise(500, 5), perfect(TEST) + 0.5 * noise(200, 5, seed=1)
    codes, test = codes.double(), test.double()
    plain = leakage(codes, TRAIN, test, TEST)
    moved = leakage(codes * 1000 + 7, TRAIN, test * 1000 + 7, TEST)
    assert moved["linear_probe"] == plain["linear_probe"]
    assert moved["mlp_probe"] == pytest.approx(plain["mlp_probe"], abs=0.01)


def test_the_seed_decides_and_global_random_states_rest():
    codes, test = perfect(TRAIN) + noise(500, 5), perfect(TEST) + noise(200, 5, seed=1)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    one, same, other = (
        leakage(codes, TRAIN, test, TEST, label_codes=perfect(TEST), seed=seed)
        for seed in (3, 3, 4)
    )
    assert one == same
    assert one["dcor_shuffled"] != other["dcor_shuffled"]
    assert one["linear_probe"] == other["linear_probe"]
    assert torch.equal(states[0], torch.get_rng_state())
    np.testing.assert_array_equal(states[1], np.random.get_state()[1])  # noqa: NPY002


def test_codes_may_require_gradients_and_come_in_half_precision():
    codes = perfect(TRAIN).requires_grad_()
    result = leakage(codes, TRAIN, perfect(TEST).half(), TEST, label_codes=perfect(TEST))
    assert result["linear_probe"] == 1.0
    assert codes.grad is None


def test_the_result_is_json_and_says_its_sizes():
    result = leakage(perfect(TRAIN), TRAIN, perfect(TEST), TEST, seed=7)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    sizes = ("train_samples", "test_samples", "dimensions", "classes", "mlp_width", "seed")
    assert [result[key] for key in sizes] == [500, 200, 5, 5, 64, 7]
    assert result["dcor"] is None
    assert result["dcor_shuffled"] is None


C, T = perfect(TRAIN), perfect(TEST)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (
            (C.long(), TRAIN, T, TEST),
            {},
            TypeError,
            "train_codes must be floating point, got torch.i",
        ),
        (
            (C, TRAIN, T[0], TEST),
            {},
            ValueError,
            r"test_codes must have shape \(N, P\), got \(5,\)",
        ),
        ((C, TRAIN, T[:, :0], TEST), {}, ValueError, r"test_codes must .* got \(200, 0\)"),
        ((C / 0, TRAIN, T, TEST), {}, ValueError, "train_codes must be finite"),
        ((C, TRAIN, T[:, 1:], TEST), {}, ValueError, "same number of dimensions, got 5 and 4"),
        (
            (C, TRAIN.float(), T, TEST),
            {},
            TypeError,
            "train_labels must be int64, got torch.float32",
        ),
        (
            (C, TRAIN[1:], T, TEST),
            {},
            ValueError,
            r"train_labels must have shape \(500,\).* \(499,\)",
        ),
        ((C, TRAIN, T, TEST - 1), {}, ValueError, "test_labels must be counted from 0, got -1"),
        ((C, TRAIN * 0, T, TEST), {}, ValueError, "at least two classes"),
        (
            (C, TRAIN, T, TEST),
            {"label_codes": T[1:]},
            ValueError,
            "label_codes and test_codes need the same number of samples, got 199 and 200",
        ),
        (
            (C, TRAIN, T, TEST),
            {"label_codes": TEST},
            TypeError,
            "label_codes must be floating point",
        ),
    ],
)
def test_wrong_calls(arguments, options, error, message):
    with pytest.raises(error, match=message):
        leakage(*arguments, **options)
