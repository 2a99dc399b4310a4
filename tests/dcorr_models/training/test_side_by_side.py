from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning_fabric import Fabric
from torch import Tensor, nn

from dcorr_models.data.base import LabelledImages
from dcorr_models.training.fit import LoopSettings, fit
from dcorr_models.training.sampler import GroupedBatchSampler, StepBatchSampler
from dcorr_models.training.side_by_side import SideBySideBatchSampler, batch_sampler
from dcorr_models.training.stage import Stage

# Nine labelled images of three classes, six unlabelled ones between them.
LABELS = torch.tensor([0, -1, 1, 2, -1, 0, 1, -1, 2, 0, -1, 1, -1, 2, -1])


def batches(**options) -> list[list[int]]:
    settings = {"batch_size": 4, "unlabelled_batch_size": 2, "seed": 3, "start": 0, "stop": 6}
    return list(SideBySideBatchSampler(LABELS, **(settings | options)))


def test_labelled_images_come_first():
    for batch in batches():
        assert (LABELS[batch[:4]] >= 0).all()
        assert (LABELS[batch[4:]] == -1).all()
        assert len(set(batch)) == len(batch) == 6


def test_each_part_has_epochs_of_its_own():
    known = [i for batch in batches(batch_size=3, stop=3) for i in batch[:3]]
    others = [i for batch in batches(stop=3) for i in batch[4:]]
    assert sorted(known) == (LABELS >= 0).nonzero().flatten().tolist()
    assert sorted(others) == (LABELS == -1).nonzero().flatten().tolist()


def test_labelled_and_unlabelled_images_are_ordered_on_their_own():
    labels = torch.arange(40) % 2 - 1  # every second image is unlabelled
    (batch,) = SideBySideBatchSampler(
        labels, batch_size=20, unlabelled_batch_size=20, seed=0, start=0, stop=1
    )
    assert [i // 2 for i in batch[:20]] != [i // 2 for i in batch[20:]]


@given(start=st.integers(0, 12), seed=st.integers(-5, 2**40))
def test_a_later_start_continues_the_same_sequence(start, seed):
    whole = batches(stop=12, seed=seed)
    assert batches(start=start, stop=12, seed=seed) == whole[start:]


def test_ranks_share_both_parts_of_the_global_batches():
    whole, parts = batches(), [batches(rank=rank, world_size=2) for rank in range(2)]
    for step, batch in enumerate(whole):
        assert sorted(i for part in parts for i in part[step][:2]) == sorted(batch[:4])
        assert sorted(i for part in parts for i in part[step][2:]) == sorted(batch[4:])


def test_groups_of_one_class_beside_unlabelled_images():
    for batch in batches(images_per_class=2):
        assert LABELS[batch[0]] == LABELS[batch[1]] != -1
        assert LABELS[batch[2]] == LABELS[batch[3]] != -1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch_size": 10}, ValueError, "between 1 and the 9 labelled images of 15, got 10"),
        ({"unlabelled_batch_size": 7}, ValueError, r"the 6 images without a label \(-1\), got 7"),
        ({"batch_size": 3, "world_size": 2}, ValueError, "divisible by the number of processes"),
        ({"unlabelled_batch_size": 3, "world_size": 2}, ValueError, "divisible by the number"),
    ],
)
def test_impossible_batches_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        batches(**options)


def test_attributes_are_no_classes():
    with pytest.raises(TypeError, match="int64 labels"):
        SideBySideBatchSampler(
            torch.rand(9, 3), batch_size=2, unlabelled_batch_size=2, seed=0, start=0, stop=1
        )


def test_a_stage_gets_the_sampler_it_asks_for():
    steps = {"batch_size": 4, "seed": 0, "start": 0, "stop": 2}
    known = LABELS[LABELS >= 0]
    assert type(batch_sampler(9, None, **steps)) is StepBatchSampler
    assert type(batch_sampler(9, known, **steps)) is StepBatchSampler
    assert type(batch_sampler(9, known, images_per_class=2, **steps)) is GroupedBatchSampler
    assert type(batch_sampler(9, torch.rand(9, 3) - 1, **steps)) is StepBatchSampler
    for batch in batch_sampler(15, LABELS, **steps):
        assert (LABELS[batch] >= 0).all(), "a supervised stage sees an unlabelled image"
    with pytest.raises(ValueError, match="the 0 labelled images of 5"):
        batch_sampler(5, torch.full((5,), -1), **steps)
    with pytest.raises(ValueError, match="the 0 images without a label"):
        batch_sampler(9, known, unlabelled_batch_size=2, **steps)


class Parting(Stage):
    """Moves one number by the labels that it is given, and remembers them."""

    def __init__(self, **options) -> None:
        net = nn.Linear(1, 1)
        super().__init__(
            "parting",
            networks={"net": net},
            optimizers={"net": torch.optim.SGD(net.parameters(), lr=0.1)},
            batch_size=3,
            **options,
        )
        self.seen: list[tuple[Tensor, Tensor]] = []

    def step(self, batch):
        first, second = self.side_by_side(batch)
        self.seen.append((first["label"], second["label"]))
        loss = self.networks["net"](second["image"].flatten(1)).mean() + first["image"].mean()
        self.update("net", loss)
        return {"loss": loss.detach()}


def run(folder, *, stops: tuple[int, ...]) -> Tensor:
    images = torch.arange(15, dtype=torch.uint8).reshape(15, 1, 1, 1)
    for stop in stops:
        torch.manual_seed(0)
        stage = Parting(max_steps=stop, unlabelled_batch_size=2)
        fit(
            stage,
            LabelledImages(images, LABELS),
            fabric=Fabric(accelerator="cpu", devices=1),
            folder=folder,
            settings=LoopSettings(progress=False),
        )
        assert all((a >= 0).all() and len(a) == 3 for a, _ in stage.seen)
        assert all((b == -1).all() and len(b) == 2 for _, b in stage.seen)
    return torch.cat([p.detach().flatten() for p in stage.networks["net"].parameters()])


def test_a_stage_parts_its_batch_and_resumes_exactly(tmp_path):
    whole = run(tmp_path / "whole", stops=(6,))
    assert torch.equal(run(tmp_path / "parts", stops=(2, 6)), whole)


def test_no_unlabelled_images_at_all_is_not_a_size():
    with pytest.raises(ValueError, match="unlabelled_batch_size must be 1 or more, or None, got 0"):
        Parting(max_steps=1, unlabelled_batch_size=0)


def test_a_data_set_without_labels_has_no_unlabelled_ones(tmp_path):
    with pytest.raises(TypeError, match="needs a tensor `labels`"):
        fit(
            Parting(max_steps=1, unlabelled_batch_size=2),
            [0, 1, 2],
            fabric=Fabric(accelerator="cpu", devices=1),
            folder=tmp_path,
        )
