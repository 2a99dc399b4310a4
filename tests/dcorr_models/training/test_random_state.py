from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from dcorr_models.training.random_state import get_random_state, seed_everything, set_random_state


@pytest.fixture(autouse=True)
def _put_back():
    state = get_random_state()
    yield
    set_random_state(state)


def draw() -> list[float]:
    legacy = np.random.standard_normal
    return [torch.rand(()).item(), legacy(), random.gauss(0, 1), random.random()]


def test_a_restored_state_repeats_the_draws():
    seed_everything(5)
    draw()  # leaves half a pair of normals waiting in numpy and in Python
    state = get_random_state()
    expected = draw()
    assert draw() != expected
    set_random_state(state)
    assert draw() == expected


def test_seeding_repeats_everything():
    seed_everything(7)
    first = draw()
    seed_everything(7)
    assert draw() == first
