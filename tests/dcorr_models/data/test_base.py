from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from torch.utils.data import DataLoader, Subset

from dcorr_models.data import (
    MNIST,
    BundledDigits,
    DataSource,
    FashionMNIST,
    LabelledImages,
    Splits,
    collate_batch,
)
from dcorr_models.errors import DataError


def numbered(n: int = 10, **options) -> LabelledImages:
    images = torch.arange(n, dtype=torch.uint8).reshape(n, 1, 1, 1).expand(n, 2, 3, 4).clone()
    return LabelledImages(images, torch.arange(n) * 10, **options)


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-1.0, 1.0), (0.25, 3.0)])
def test_every_byte_becomes_its_float(value_range):
    low, high = value_range
    images = torch.arange(256, dtype=torch.uint8).reshape(256, 1, 1, 1)
    data = LabelledImages(images, torch.zeros(256, dtype=torch.int64), value_range=value_range)
    expected = torch.linspace(low, high, 256, dtype=torch.float64).float()
    floats = data.tensors()[0].flatten()
    torch.testing.assert_close(floats, expected, rtol=1e-6, atol=1e-6)
    assert floats.dtype == torch.float32


def test_a_sample_is_a_row_of_its_batch():
    data = numbered()
    batch = data.__getitems__([7, 2, 7])
    assert batch["image"].shape == (3, 2, 3, 4)
    assert batch["index"].tolist() == [7, 2, 7]
    assert batch["label"].tolist() == [70, 20, 70]
    sample = data[2]
    assert sample["image"].shape == (2, 3, 4)
    assert sample["index"].shape == ()
    assert sample["index"].dtype == torch.int64
    for key, value in sample.items():
        assert torch.equal(value, batch[key][1])


def test_negative_indices_count_from_the_end():
    assert numbered()[-1]["index"].item() == 9


@pytest.mark.parametrize("index", [10, -11])
def test_indices_outside_end_the_iteration(index):
    with pytest.raises(IndexError, match="10 images"):
        numbered()[index]


def test_a_batch_is_a_copy():
    data = numbered()
    data.__getitems__([0, 1])["image"].fill_(9.0)
    data.__getitems__([0, 1])["label"].fill_(9)
    assert data.images[:2].max() == 1
    assert data.labels[:2].tolist() == [0, 10]


@pytest.mark.parametrize("subset", [False, True])
def test_a_loader_hands_out_each_image_once(subset):
    data = numbered(25)
    wanted = list(range(5, 25)) if subset else list(range(25))
    loader = DataLoader(
        Subset(data, wanted) if subset else data,
        batch_size=4,
        shuffle=True,
        collate_fn=collate_batch,
        generator=torch.Generator().manual_seed(0),
    )
    batches = list(loader)
    assert batches[0]["image"].shape == (4, 2, 3, 4)
    index = torch.cat([batch["index"] for batch in batches])
    assert sorted(index.tolist()) == wanted
    assert torch.equal(torch.cat([batch["label"] for batch in batches]), index * 10)
    pixels = torch.cat([batch["image"][:, 1, 2, 3] for batch in batches])
    torch.testing.assert_close(pixels, index / 255)


def test_single_samples_are_stacked():
    data = numbered()
    batch = collate_batch([data[3], data[1]])
    assert all(torch.equal(batch[k], v) for k, v in data.__getitems__([3, 1]).items())


@pytest.mark.parametrize(("limit", "count"), [(None, 10), (0, 0), (4, 4), (99, 10)])
def test_tensors_takes_the_first_images(limit, count):
    images, labels = numbered().tensors(limit)
    assert images.shape == (count, 2, 3, 4)
    assert labels.tolist() == [10 * i for i in range(count)]


def test_tensors_refuses_a_negative_limit():
    with pytest.raises(ValueError, match="limit must not be negative, got -1"):
        numbered().tensors(-1)


def test_attributes_are_labels_too():
    attributes = torch.eye(3)
    data = LabelledImages(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), attributes)
    assert torch.equal(data.__getitems__([2, 0])["label"], attributes[[2, 0]])


def test_images_may_lie_in_a_memory_map(tmp_path):
    shape = (6, 1, 2, 2)
    mapped = np.memmap(tmp_path / "images", np.uint8, "w+", shape=shape)
    mapped[:] = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1) * 51
    data = LabelledImages(torch.from_numpy(mapped), torch.arange(6))
    torch.testing.assert_close(data[5]["image"], torch.ones(1, 2, 2))


BYTES = torch.zeros(3, 1, 2, 2, dtype=torch.uint8)
CLASSES = torch.zeros(3, dtype=torch.int64)


@pytest.mark.parametrize(
    ("images", "labels", "error", "message"),
    [
        (BYTES.double(), CLASSES, TypeError, "uint8, or float32 as they are, got torch.float64"),
        (
            BYTES[:, 0],
            CLASSES,
            ValueError,
            r"images must have shape \(N, C, H, W\), got \(3, 2, 2\)",
        ),
        (BYTES, CLASSES.int(), TypeError, "labels must be int64 or float32, got torch.int32"),
        (
            BYTES,
            CLASSES[:, None],
            ValueError,
            r"labels must have shape .* got \(3, 1\) as torch.int64",
        ),
        (
            BYTES,
            CLASSES.float(),
            ValueError,
            r"labels must have shape .* got \(3,\) as torch.float32",
        ),
        (BYTES, CLASSES[:2], ValueError, "same length, got 3 and 2"),
    ],
)
def test_misfits_are_refused(images, labels, error, message):
    with pytest.raises(error, match=message):
        LabelledImages(images, labels)


@pytest.mark.parametrize(
    ("known", "error", "message"),
    [
        ({"content": torch.zeros(3)}, TypeError, "content must be torch.int64, got torch.float32"),
        (
            {"content": torch.zeros(2, dtype=torch.int64)},
            ValueError,
            r"content must have shape \(3,\), got \(2,\)",
        ),
        (
            {"targets": torch.zeros(3)},
            ValueError,
            r"targets must have shape \(3, T\), got \(3,\)",
        ),
    ],
)
def test_what_is_known_must_fit_the_images(known, error, message):
    with pytest.raises(error, match=message):
        LabelledImages(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.arange(3), **known)


def test_an_empty_value_range_is_refused():
    with pytest.raises(ValueError, match="low < high"):
        LabelledImages(BYTES, CLASSES, value_range=(1.0, 1.0))


class Nothing(DataSource):
    """A source that downloads nothing."""

    name = "nothing"

    def splits(self) -> Splits:
        part = LabelledImages(BYTES, CLASSES)
        return Splits(part, part, part)


def test_prepare_says_that_there_is_nothing_to_do():
    lines: list[str] = []
    Nothing().prepare(say=lines.append)
    assert lines == ["nothing: nothing to download"]
    with pytest.raises(DataError, match="leave the mirror http://x out"):
        Nothing().prepare(mirror="http://x", say=lines.append)


def test_a_source_must_have_splits():
    with pytest.raises(TypeError, match="splits"):
        DataSource()


@pytest.mark.parametrize("source", [MNIST, FashionMNIST, BundledDigits])
def test_a_source_keeps_its_promises(source):
    assert source.name
    assert source.image_shape == (1, 28, 28)
    assert len(source.label_names) == len(set(source.label_names)) == 10
    assert source.multilabel is False
    assert source.value_range == (0.0, 1.0)


def parser() -> ArgumentParser:
    made = ArgumentParser(exit_on_error=False)
    made.add_subclass_arguments(DataSource, "data")
    return made


def test_the_constructor_is_the_command_line():
    words = [
        "--data",
        "MNIST",
        "--data.folder",
        "a/b",
        "--data.split",
        "release",
        "--data.seed",
        "3",
    ]
    options = parser().parse_args(words)
    assert dict(options.data.init_args) == {
        "folder": "a/b",
        "split": "release",
        "seed": 3,
        "verify": True,
    }


@pytest.mark.parametrize(
    "words",
    [
        ["--data", "BundledDigits", "--data.tran", "5"],
        ["--data", "MNIST", "--data.split", "mine"],
        ["--data", "NoSuchData"],
    ],
)
def test_misspelt_options_are_refused(words):
    with pytest.raises(Exception, match=r"data"):
        parser().parse_args(words)


def test_importing_is_cheap():
    code = (
        "import sys, dcorr_models.data, dcorr_models.metrics.image_quality, "
        "dcorr_models.metrics.leakage, dcorr_models.metrics.recognition; "
        "print([m for m in ('pooch', 'requests', 'sklearn', 'scipy', 'torchmetrics', 'matplotlib') "
        "if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
