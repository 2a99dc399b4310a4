"""What is refused before a run begins: networks, regularisers, labels, ranges."""

from __future__ import annotations

import copy

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from dcorr import DCov2Loss
from dcorr_models.admission import admit
from dcorr_models.data import LabelledImages, Splits
from dcorr_models.errors import UserError
from dcorr_models.evaluation import evaluate
from dcorr_models.experiment import train
from dcorr_models.methods import CDNet
from dcorr_models.training.fit import LoopSettings
from dcorr_models.training.stage import Stage
from tests.dcorr_models.toy import (
    ToyAttributes,
    ToyDecoder,
    ToyEncoder,
    ToyImages,
    toy_attribute_cdnet,
    toy_cdnet,
)


class Returns(nn.Module):
    """A module with a parameter that returns what it is told to."""

    def __init__(self, result) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.result = result

    def forward(self, *inputs):
        return self.result(*inputs)


class Regulariser(Returns):
    def __init__(self, result) -> None:
        super().__init__(result)
        del self.scale


def fails(*_):
    raise KeyError("boo")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decoder": Returns(lambda y, z: z.new_zeros(2, 12, 12))}, "decoder must return shape"),
        ({"decoder": Returns(lambda y, z: z.new_zeros(2, 1, 12, 1))}, "decoder must return shape"),
        ({"decoder": Returns(lambda y, z: (z,))}, "decoder must return a tensor, got tuple"),
        ({"decoder": Returns(fails)}, "decoder fails on a batch .* KeyError: 'boo'"),
        ({"residual_encoder": ToyEncoder(5)}, r"residual_encoder must return shape \(2, 3\)"),
        ({"label_encoder": ToyEncoder(5)}, r"label_encoder must return shape \(2, 4\)"),
        ({"discriminator": Returns(lambda x: x)}, "discriminator must return a pair"),
        ({"decorrelation": Regulariser(lambda y, z: z)}, r"decorrelation must return shape \(\)"),
        ({"decorrelation": Regulariser(lambda y, z: 0.0)}, "must return a tensor, got float"),
        ({"decorrelation": Regulariser(lambda y, z: None)}, "must return a tensor, got NoneType"),
    ],
)
def test_modules_that_do_not_fit_are_named(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        train(toy_cdnet(**options), ToyImages(), tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_a_regulariser_with_parameters_is_refused():
    with pytest.raises(UserError, match="has parameters of its own"):
        toy_cdnet(decorrelation=Returns(lambda y, z: z.sum()))


def test_a_regulariser_of_several_processes_is_rehearsed_alone():
    regulariser = DCov2Loss(group="world")
    method, data = toy_cdnet(decorrelation=regulariser), ToyImages()
    admit(method, data, data.splits(), method.stages(), processes=2)
    assert regulariser.group == "world"


def test_players_that_share_parameters_are_refused():
    shared = ToyEncoder(4)
    with pytest.raises(UserError, match="share parameters"):
        toy_cdnet(label_encoder=shared, residual_encoder=shared, latent_dim=4)


@pytest.mark.parametrize("name", ["architecture", "updates", "decorrelation"])
def test_unknown_choices_are_refused(name):
    with pytest.raises(UserError, match=f"{name} must be one of .*, got 'foo'"):
        CDNet(**{name: "foo"})


def test_an_output_that_cannot_reach_the_datas_range_is_refused():
    source = ToyImages()
    source.value_range = (-1.0, 1.0)
    model = toy_cdnet(decoder=None, discriminator=None)
    with pytest.raises(UserError, match=r"values in \(-1.0, 1.0\)"):
        admit(model, source, source.splits(), model.stages(), processes=1)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.full((96,), 4), "labels up to 4, more classes than the 4"),
        (torch.full((96,), -1), "none of the 96 training images of toy has a label"),
        (torch.arange(96) % 5 - 1, "20 of 96 training images of toy have no label .* CDNet"),
        (torch.zeros(96, 4), "wanted int64"),
    ],
)
def test_labels_that_break_the_promise_are_refused(labels, message):
    source, model = ToyImages(), toy_cdnet()
    splits = source.splits()
    splits.train.labels = labels
    with pytest.raises(UserError, match=message):
        admit(model, source, splits, model.stages(), processes=1)


def test_what_the_user_froze_stays_frozen(tmp_path):
    decoder = ToyDecoder()
    decoder.net[0].weight.requires_grad_(False)
    before = copy.deepcopy(decoder.net[0].weight)
    model = toy_cdnet(decoder=decoder)
    train(model, ToyImages(), tmp_path / "r", loop=LoopSettings(progress=False))
    assert torch.equal(decoder.net[0].weight, before)
    assert not decoder.net[0].weight.requires_grad
    # The encoder that was fixed in the second stage has its flags back.
    assert all(p.requires_grad for p in model.label_encoder.parameters())


def test_evaluation_says_what_it_cannot_measure():
    splits = ToyImages().splits()
    with pytest.raises(UserError, match="exclusive classes"):
        evaluate(toy_cdnet(multilabel=True), splits)
    splits.test.labels = torch.zeros_like(splits.test.labels)
    with pytest.raises(UserError, match="test split has fewer than two classes"):
        evaluate(toy_cdnet(), splits)


def test_the_python_way_trains_and_comes_back(tmp_path):
    fabric = Fabric(accelerator="cpu", devices=1)
    loop = LoopSettings(progress=False)
    first = train(toy_cdnet(), ToyImages(), tmp_path / "r", loop=loop, fabric=fabric)
    again = train(
        toy_cdnet(seed=9), ToyImages(), tmp_path / "r", loop=loop, fabric=fabric, resume=True
    )
    weights = first.state_dict()
    assert all(torch.equal(v, weights[k]) for k, v in again.state_dict().items())


class Lonely(ToyImages):
    """One image of the last two classes."""

    def splits(self):
        splits = super().splits()
        labels = torch.tensor([0, 1, 0, 1, 0, 1, 2, 3])
        train = LabelledImages(splits.train.images[:8], labels)
        return splits._replace(train=train)


def grouped_stage(size: int, batch_size: int) -> Stage:
    return Stage(
        "groups",
        networks={},
        optimizers={},
        max_steps=1,
        batch_size=batch_size,
        images_per_class=size,
    )


@pytest.mark.parametrize(
    ("data", "size", "batch_size", "processes", "message"),
    [
        (Lonely(), 2, 4, 1, r"fewer training images: 2 \(1\), 3 \(1\); leave them out"),
        (ToyImages(), 25, 50, 1, r"0 \(24\), 1 \(24\), 2 \(24\), 3 \(24\)"),
        (ToyImages(), 4, 24, 4, "6 groups of 4 images .* not divisible by the 4 processes"),
        (ToyImages(train=94), 3, 93, 1, "93 but the training split has 90 images in whole groups"),
    ],
)
def test_groups_that_the_data_cannot_give_are_refused(data, size, batch_size, processes, message):
    method, stage = toy_cdnet(), grouped_stage(size, batch_size)
    with pytest.raises(UserError, match=message):
        admit(method, data, data.splits(), [stage], processes=processes)


def test_groups_need_classes():
    data = ToyAttributes()
    with pytest.raises(UserError, match="has attributes, not classes"):
        admit(toy_attribute_cdnet(), data, data.splits(), [grouped_stage(2, 4)], processes=1)


@pytest.mark.parametrize("size", [0, 5])
def test_a_stage_refuses_groups_that_do_not_fill_its_batch(size):
    with pytest.raises(ValueError, match=f"divide the batch_size .24., got {size}"):
        grouped_stage(size, 24)


def half_labelled(data: ToyImages, *, known: int = 48) -> Splits:
    """The first images keep their labels, the others have none."""
    splits = data.splits()
    splits.train.labels[known:] = -1
    return splits


def mixed_stage(**options: int | None) -> Stage:
    settings: dict = {"batch_size": 24, "unlabelled_batch_size": 24}
    return Stage("mixed", networks={}, optimizers={}, max_steps=1, **(settings | options))


def test_unlabelled_images_are_for_methods_that_take_them():
    data, method = ToyImages(), toy_cdnet()
    with pytest.raises(UserError, match=r"48 of 96 training images .* learns from labelled ones"):
        admit(method, data, half_labelled(data), method.stages(), processes=1)
    method.takes_unlabelled = True
    admit(method, data, half_labelled(data), [mixed_stage()], processes=2)


@pytest.mark.parametrize(
    ("stage", "processes", "message"),
    [
        ({"unlabelled_batch_size": None}, 1, "48 training images .* and no stage of CDNet"),
        ({"unlabelled_batch_size": 49}, 1, "49 images without a label a step, .* of toy has 48"),
        ({"unlabelled_batch_size": 9}, 2, "unlabelled_batch_size 9 is not divisible by the 2"),
        ({"batch_size": 49}, 1, "batches of 49 but the training split has 48 labelled images"),
        ({"images_per_class": 13, "batch_size": 26}, 1, r"fewer training images: 0 \(12\), 1"),
    ],
)
def test_batches_that_partly_labelled_data_cannot_give_are_refused(stage, processes, message):
    data, method = ToyImages(), toy_cdnet()
    method.takes_unlabelled = True
    with pytest.raises(UserError, match=message):
        admit(method, data, half_labelled(data), [mixed_stage(**stage)], processes=processes)


def test_without_unlabelled_images_no_batch_of_them_fits():
    data, method = ToyImages(), toy_cdnet()
    method.takes_unlabelled = True
    with pytest.raises(UserError, match=r"toy has 0: hide some \(--data PartlyLabelled"):
        admit(method, data, data.splits(), [mixed_stage()], processes=1)


def test_a_stage_of_unlabelled_images_needs_some():
    data, method = ToyImages(), toy_cdnet()
    with pytest.raises(UserError, match=r"takes 24 images without a label .* of toy has 0"):
        admit(method, data, data.splits(), [mixed_stage()], processes=1)


def test_classes_without_samples_are_named_where_each_is_needed():
    data, method = ToyImages(), toy_cdnet()
    splits = data.splits()
    splits.train.labels.clamp_(max=1)
    admit(method, data, splits, method.stages(), processes=1)
    method.needs_every_class = True
    with pytest.raises(UserError, match="images of every class, and toy has none of 2, 3: leave"):
        admit(method, data, splits, method.stages(), processes=1)


def test_a_class_below_no_label_is_refused():
    with pytest.raises(ValueError, match="0 or more, or -1 for no label, got -2"):
        LabelledImages(torch.zeros(2, 1, 1, 1, dtype=torch.uint8), torch.tensor([0, -2]))
