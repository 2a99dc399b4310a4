from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcorr_models.training.sampler import StepBatchSampler


def batches(**options) -> list[list[int]]:
    return list(StepBatchSampler(**({"num_samples": 10, "seed": 3, "start": 0} | options)))


@given(start=st.integers(0, 12), seed=st.integers(-5, 2**40))
def test_a_later_start_continues_the_same_sequence(start, seed):
    whole = batches(batch_size=4, stop=12, seed=seed)
    assert batches(batch_size=4, start=start, stop=12, seed=seed) == whole[start:]


def test_an_epoch_shows_each_sample_once_and_drops_the_rest():
    epoch = [i for batch in batches(batch_size=3, stop=3) for i in batch]
    assert len(epoch) == len(set(epoch)) == 9


def test_epochs_and_seeds_differ():
    first, second = batches(batch_size=10, stop=2)
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert first != batches(batch_size=10, stop=1, seed=4)[0]


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_the_global_batches(world_size):
    whole = batches(batch_size=6, stop=4)
    parts = [
        batches(batch_size=6, stop=4, rank=r, world_size=world_size) for r in range(world_size)
    ]
    for step, batch in enumerate(whole):
        shares = [part[step] for part in parts]
        assert {len(share) for share in shares} == {6 // world_size}
        assert sorted(i for share in shares for i in share) == sorted(batch)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 11}, "between 1 and the 10 samples, got 11"),
        ({"batch_size": 0}, "between 1 and the 10 samples, got 0"),
        ({"batch_size": 5, "world_size": 2}, "divisible by the number of processes"),
    ],
)
def test_impossible_batches_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        batches(stop=1, **options)
