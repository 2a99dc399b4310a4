from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dcorr_models.training.sampler import GroupedBatchSampler, StepBatchSampler

# Classes of 2, 3, 4, 5 and 7 images, mixed; 9 pairs and 3 images over.
LABELS = torch.tensor([4, 1, 9, 4, 6, 6, 1, 2, 9, 9, 2, 4, 9, 4, 4, 4, 4, 6, 9, 2, 2])


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


def grouped(labels: torch.Tensor = LABELS, **options) -> list[list[int]]:
    settings = {"images_per_class": 2, "batch_size": 6, "seed": 3, "start": 0, "stop": 3}
    return list(GroupedBatchSampler(labels, **(settings | options)))


def classes(batch: list[int], size: int) -> list[set[int]]:
    labels = LABELS[batch].tolist()
    return [set(labels[k : k + size]) for k in range(0, len(labels), size)]


def test_a_group_holds_different_images_of_one_class():
    for batch in grouped(stop=30):
        assert len(set(batch)) == len(batch) == 6
        assert all(len(group) == 1 for group in classes(batch, 2))
    plain = LABELS[next(iter(StepBatchSampler(21, batch_size=6, seed=3, start=0, stop=1)))]
    assert (plain[::2] != plain[1::2]).any(), "classes come together by themselves"


def test_an_epoch_shows_each_whole_group_once():
    epoch = [i for batch in grouped() for i in batch]
    assert len(set(epoch)) == 18
    counts = dict(zip(*(t.tolist() for t in LABELS[epoch].unique(return_counts=True)), strict=True))
    assert counts == {1: 2, 2: 4, 4: 6, 6: 2, 9: 4}


def test_what_is_left_over_of_a_class_comes_in_other_epochs():
    assert {i for batch in grouped(stop=3 * 12) for i in batch} == set(range(21))


@given(start=st.integers(0, 12), seed=st.integers(-5, 2**40))
def test_a_later_start_continues_the_same_groups(start, seed):
    whole = grouped(stop=12, seed=seed)
    assert grouped(start=start, stop=12, seed=seed) == whole[start:]


def test_groups_change_from_epoch_to_epoch_and_with_the_seed():
    def pairs(batches: list[list[int]]) -> set[frozenset[int]]:
        return {frozenset(batch[k : k + 2]) for batch in batches for k in range(0, 6, 2)}

    first, second = pairs(grouped()), pairs(grouped(start=3, stop=6))
    assert first != second
    assert first != pairs(grouped(seed=4))


def test_ranks_have_whole_groups_of_the_global_batches():
    whole = grouped(stop=9)
    parts = [grouped(stop=9, rank=rank, world_size=3) for rank in range(3)]
    for step, batch in enumerate(whole):
        shares = [part[step] for part in parts]
        assert {len(share) for share in shares} == {2}
        assert all(len(group) == 1 for share in shares for group in classes(share, 2))
        assert sorted(i for share in shares for i in share) == sorted(batch)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"images_per_class": 4, "batch_size": 4}, ValueError, r"classes 1 \(2\), 6 \(3\)$"),
        ({"batch_size": 5}, ValueError, r"multiple of images_per_class \(2\)"),
        ({"batch_size": 6, "world_size": 2}, ValueError, r"number of processes \(2\), got 6"),
        ({"batch_size": 20}, ValueError, "between 1 and the 18 images in whole groups of 2"),
        ({"batch_size": 0}, ValueError, "between 1 and the 18 images"),
        ({"labels": torch.rand(9, 3)}, TypeError, "int64 labels"),
    ],
)
def test_impossible_groups_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        grouped(**options)
