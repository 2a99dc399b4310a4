from __future__ import annotations

import json

import pytest
import torch

from dcorr_models.metrics.leakage_attributes import attribute_leakage

NAMES = ["often", "rare"]


def labels_of(n: int, seed: int) -> torch.Tensor:
    """One attribute in half of the samples, one in a tenth."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(n, 2, generator=generator) < torch.tensor([0.5, 0.1])).float()


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


TRAIN, TEST = labels_of(600, 0), labels_of(300, 1)


def measure(train=TRAIN, test=TEST, *, labels=TRAIN, test_labels=TEST, **options):
    return attribute_leakage(train, labels, test, test_labels, **({"names": NAMES} | options))


def test_perfect_codes_tell_everything():
    result = measure(label_codes=TEST)
    assert result["linear_per_attribute"] == [1.0, 1.0]
    assert result["mlp_per_attribute"] == [1.0, 1.0]
    assert (result["linear_probe"], result["mlp_probe"], result["chance"]) == (1.0, 1.0, 0.5)
    assert result["dcor"] == pytest.approx(1.0, abs=1e-9)
    assert result["dcor_shuffled"] < 0.3


def test_constant_codes_tell_nothing_however_rare_the_attribute():
    result = measure(torch.ones(600, 3), torch.ones(300, 3), label_codes=TEST)
    assert result["linear_per_attribute"] == [0.5, 0.5]
    assert result["mlp_per_attribute"] == [0.5, 0.5]
    assert result["dcor"] == 0.0


def test_noise_stays_near_chance():
    result = measure(noise(600, 3), noise(300, 3, seed=1))
    for key in ("linear_per_attribute", "mlp_per_attribute"):
        # four standard errors: 300 samples of the one, about 30 with the other
        assert result[key][0] == pytest.approx(0.5, abs=0.12)
        assert result[key][1] == pytest.approx(0.5, abs=0.2)


def test_each_attribute_for_itself():
    result = measure(
        torch.cat([TRAIN[:, :1], noise(600, 1)], dim=1),
        torch.cat([TEST[:, :1], noise(300, 1, seed=1)], dim=1),
    )
    assert result["linear_per_attribute"][0] == 1.0
    assert result["linear_per_attribute"][1] < 0.7
    assert result["linear_probe"] == pytest.approx(sum(result["linear_per_attribute"]) / 2)


def test_a_rare_attribute_half_seen_counts_for_half():
    """The decision weighs both kinds of images alike: no probe may hide behind the many without."""
    faint = TRAIN + 0.7 * noise(600, 2), TEST + 0.7 * noise(300, 2, seed=1)
    result = measure(*faint)
    assert result["linear_per_attribute"][1] > 0.65
    assert result["mlp_per_attribute"][1] > 0.65


def test_only_the_network_sees_what_no_line_separates():
    def xor(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        codes = noise(n, 2, seed=seed)
        return codes, (codes[:, :1] * codes[:, 1:] > 0).float()

    (train, labels), (test, test_labels) = xor(2000, 0), xor(500, 1)
    result = measure(train, test, labels=labels, test_labels=test_labels, names=["xor"])
    assert result["linear_probe"] < 0.65
    assert result["mlp_probe"] > 0.93


def test_a_choice_of_attributes():
    result = measure(attributes=[1])
    assert result["names"] == ["rare"]
    assert result["linear_per_attribute"] == result["mlp_per_attribute"] == [1.0]


def test_caps_and_sizes():
    result = measure(label_codes=TEST, max_train=200, max_dcor=100, seed=7)
    sizes = ("train_samples", "test_samples", "dcor_samples", "dimensions", "mlp_width", "seed")
    assert [result[key] for key in sizes] == [200, 300, 100, 2, 128, 7]
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    without = measure()
    assert (without["dcor"], without["dcor_shuffled"], without["dcor_samples"]) == (None, None, 0)


def test_the_seed_decides_and_the_global_state_rests():
    codes = TRAIN + noise(600, 2), TEST + noise(300, 2, seed=1)
    before = torch.get_rng_state()
    one, same, other = (measure(*codes, max_train=300, seed=s) for s in (3, 3, 4))
    assert one == same
    assert one["mlp_per_attribute"] != other["mlp_per_attribute"]
    assert torch.equal(before, torch.get_rng_state())


NONE = torch.cat([TRAIN[:, :1], torch.zeros(600, 1)], dim=1)
ALL = torch.cat([TEST[:, :1], torch.ones(300, 1)], dim=1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"labels": NONE}, ValueError, "'rare': none of the 600 training codes"),
        ({"test_labels": ALL}, ValueError, "'rare': all of the 300 test codes"),
        ({"train": TRAIN / 0}, ValueError, "train_codes must be finite"),
        ({"labels": TRAIN.long()}, TypeError, "train_labels need attributes as floating point"),
        ({"labels": TRAIN[1:]}, ValueError, r"train_labels must have shape \(600, A\)"),
        ({"test_labels": TEST / 2}, ValueError, "test_labels must be 0 or 1, got 0.5"),
        ({"test_labels": TEST[:, :1]}, ValueError, "same attributes, got 2 and 1"),
        ({"names": ["a"]}, ValueError, "names must be one an attribute, 2, got 1"),
        ({"label_codes": TEST[1:]}, ValueError, "same number of samples, got 299 and 300"),
        ({"test": TEST[:, :1]}, ValueError, "same number of dimensions, got 2 and 1"),
    ],
)
def test_wrong_calls(options, error, message):
    with pytest.raises(error, match=message):
        measure(**options)
