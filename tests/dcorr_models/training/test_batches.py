"""Batches are the same numbers from a loader and from a data set that stays on the device."""

from __future__ import annotations

import pytest
import torch
from lightning_fabric import Fabric

from dcorr_models.data import LabelledImages
from dcorr_models.errors import UserError
from dcorr_models.training.batches import ResidentBatches, batches, stays_on_device
from dcorr_models.training.fit import LoopSettings
from dcorr_models.training.sampler import StepBatchSampler

CPU = torch.device("cpu")


class Noisy(LabelledImages):
    """Draws at access time."""

    def __getitems__(self, indices):
        batch = super().__getitems__(indices)
        return batch | {"image": batch["image"] + torch.rand(())}


def images(kind: type[LabelledImages] = LabelledImages, **options) -> LabelledImages:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (50, 3, 8, 8), generator=generator, dtype=torch.uint8)
    return kind(pixels, torch.arange(50) % 7, **options)


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-1.0, 1.0)])
def test_both_ways_give_the_same_bits(value_range):
    data = images(value_range=value_range)
    sampler = StepBatchSampler(50, batch_size=8, seed=3, start=2, stop=15)
    fabric = Fabric(accelerator="cpu", devices=1)
    loaded = list(batches(data, sampler, fabric, seed=0, on_device="never"))
    resident = list(batches(data, sampler, fabric, seed=0, on_device="always"))
    assert len(loaded) == len(resident) == 13
    for a, b in zip(loaded, resident, strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_every_byte_becomes_the_data_sets_own_float():
    pixels = torch.arange(256).to(torch.uint8).reshape(256, 1, 1, 1)
    data = LabelledImages(pixels, torch.zeros(256, dtype=torch.int64), value_range=(-1.0, 1.0))
    sampler = StepBatchSampler(256, batch_size=256, seed=0, start=0, stop=1)
    (batch,) = ResidentBatches(data, sampler, CPU)
    assert torch.equal(batch["image"], data.tensors()[0][batch["index"]])


def test_auto_leaves_the_images_where_they_are_on_a_cpu():
    assert not stays_on_device(images(), CPU, "auto")
    assert stays_on_device(images(), CPU, "always")
    assert not stays_on_device(images(), CPU, "never")


@pytest.mark.parametrize(("free", "stays"), [(4 * 9600, True), (4 * 9600 - 1, False)])
def test_auto_takes_a_quarter_of_a_gpus_free_memory_at_most(monkeypatch, free, stays):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10 * free))
    cuda = torch.device("cuda")
    assert images().images.nbytes == 9600
    assert stays_on_device(images(), cuda, "auto") == stays
    assert not stays_on_device(images(Noisy), cuda, "auto")


def test_images_drawn_at_access_time_cannot_stay():
    with pytest.raises(UserError, match="Noisy makes its images when they are asked for"):
        stays_on_device(images(Noisy), CPU, "always")


def test_an_unknown_placement_is_refused():
    with pytest.raises(ValueError, match="one of auto, always, never, got 'sometimes'"):
        LoopSettings(data_on_device="sometimes")
