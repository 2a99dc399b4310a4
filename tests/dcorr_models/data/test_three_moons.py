from __future__ import annotations

import math

import pytest
import torch

from dcorr_models.data import ThreeMoons
from dcorr_models.errors import DataError


def test_points_lie_on_three_half_circles():
    train, _, _ = ThreeMoons(train=3_000, noise=0.0).splits()
    x, y = train.images.flatten(1).double().T
    centre = torch.tensor([-2.2, 0.0, 2.2], dtype=torch.float64)[train.labels]
    torch.testing.assert_close((x - centre) ** 2 + y**2, torch.ones_like(x), rtol=0, atol=1e-5)
    assert (x >= centre - 1e-6).all(), "half of the circle alone"
    assert train.targets is not None
    torch.testing.assert_close(train.targets[:, 0].double().sin(), y, rtol=0, atol=1e-6)
    assert train.labels.bincount().tolist() == [1_000] * 3


def test_the_second_coordinate_does_not_tell_the_class():
    train = ThreeMoons(train=30_000).splits().train
    y, angle = train.images[:, 1, 0, 0], train.targets
    assert angle is not None
    # the mean of y is 0 for each class: 4 standard errors of sqrt(1/2 + .15²) / 100
    means = torch.stack([y[train.labels == k].mean() for k in range(3)])
    assert means.abs().max() < 4 * math.sqrt(0.5 + 0.15**2) / 100
    noise = y - angle[:, 0].sin()
    assert noise.std().item() == pytest.approx(0.15, rel=0.02)


def test_points_are_handed_out_as_they_are():
    test = ThreeMoons(train=3).splits().test
    images, labels = test.tensors()
    assert torch.equal(images, test.images)
    assert images.dtype == torch.float32
    assert images.shape == (9_000, 2, 1, 1)
    assert labels[:4].tolist() == [0, 1, 2, 0]
    assert -4 < images.min() < images.max() < 4


def test_seed_and_sizes_decide_the_points():
    one, again, other = (ThreeMoons(train=30, seed=s).splits() for s in (0, 0, 1))
    assert torch.equal(one.train.images, again.train.images)
    assert not torch.equal(one.train.images, other.train.images)
    assert torch.equal(one.test.images, ThreeMoons(train=60).splits().test.images)
    assert not torch.equal(one.test.images[:30], one.train.images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": 2}, "train and test need 3 points or more"),
        ({"valid": -1}, "valid 0 or more"),
        ({"noise": -0.1}, "noise must be a number from 0 on, got -0.1"),
        ({"noise": math.nan}, "noise must be a number from 0 on"),
        ({"seed": -1}, "seed must be from 0"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(DataError, match=message):
        ThreeMoons(**options)
