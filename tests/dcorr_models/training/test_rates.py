"""Rates: the cosine of both releases, and a rate that waits for the loss."""

from __future__ import annotations

import math

import torch

from dcorr_models.training.rates import CosineRate, Plateau


def test_cosine_by_epochs_is_constant_within_an_epoch():
    rate = CosineRate(3e-4, 1e-5, steps=40, every=4)
    values = rate(torch.arange(1, 41)).reshape(10, 4)
    assert torch.equal(values, values[:, :1].expand(-1, 4))
    wanted = 1e-5 + 0.5 * (3e-4 - 1e-5) * (1 + math.cos(math.pi * 3 / 10))
    assert math.isclose(values[3, 0].item(), wanted, rel_tol=1e-12)
    assert math.isclose(rate.factor(12) * rate.start, wanted, rel_tol=1e-12)


def test_a_plateau_remembers_after_loading():
    plateau = Plateau(2, min_delta=0.0, halve_after=2, stop_after=5)
    factors = []
    for step in range(12):
        plateau.add(torch.tensor(1.0))
        if plateau.ends_epoch(step):
            plateau.close(plateau.mean())
            factors.append(plateau.factor)
            other = Plateau(2, min_delta=0.0, halve_after=2, stop_after=5)
            assert other.factor == 1.0
            other.load_state_dict(plateau.state_dict())
            assert (other.factor, other.stopped) == (plateau.factor, plateau.stopped)
    assert factors == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    assert plateau.stopped
