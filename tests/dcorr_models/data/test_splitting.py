from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcorr_models.data.splitting import check_seed, shuffled_order, stratified_order
from dcorr_models.errors import DataError


def test_the_orders_are_frozen():
    # these numbers must never change: old runs' test images would become training images
    assert shuffled_order(8, seed=0).tolist() == [6, 2, 1, 7, 3, 0, 5, 4]
    assert stratified_order([0, 0, 0, 1, 1, 1], seed=1).tolist() == [0, 4, 2, 5, 3, 1]


@pytest.mark.parametrize("n", [0, 1, 2, 1000])
def test_a_shuffle_is_a_permutation(n):
    order = shuffled_order(n, seed=3)
    assert sorted(order.tolist()) == list(range(n))
    assert order.dtype == np.int64


def test_seeds_give_different_orders():
    labels = np.arange(100) % 4
    assert shuffled_order(100, 0).tolist() != shuffled_order(100, 1).tolist()
    assert stratified_order(labels, 0).tolist() != stratified_order(labels, 1).tolist()


@pytest.mark.parametrize("classes", [1, 2, 10])
def test_every_prefix_has_the_classes_equally_often(classes):
    labels = np.repeat(np.arange(classes), 30)
    ordered = labels[stratified_order(labels, seed=5)]
    for n in range(1, len(labels) + 1):
        counts = np.bincount(ordered[:n], minlength=classes)
        assert counts.max() - counts.min() <= 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 4), max_size=80), st.integers(0, 2**32 - 1))
def test_unequal_classes_keep_their_proportions(labels, seed):
    order = stratified_order(np.array(labels, dtype=np.int64), seed)
    assert sorted(order.tolist()) == list(range(len(labels)))
    ordered = np.array(labels, dtype=np.int64)[order]
    for n in range(len(labels)):
        for label in set(labels):
            share = labels.count(label) * n / len(labels)
            assert abs((ordered[:n] == label).sum() - share) <= 3


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_outside_is_refused(seed):
    with pytest.raises(DataError, match=f"got {seed}"):
        check_seed(seed)
