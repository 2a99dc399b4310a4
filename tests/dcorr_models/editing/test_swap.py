from __future__ import annotations

from importlib import import_module

import pytest
import torch
from torch import Tensor

from dcorr_models import editing
from dcorr_models.errors import UserError
from tests.dcorr_models.toy import ToyAttributes, ToyClassContent, ToyContents, toy_cdnet


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Class k of content c at 4 * k + c."""
    return ToyContents(copies=1).splits().train.tensors()[0]


def close(made: Tensor, wanted: Tensor) -> bool:
    """The toy's images of one class and content differ by 1 / 255 at most."""
    return made.shape == wanted.shape and (made - wanted).abs().max().item() < 1.01 / 255


def test_swap_has_classes_in_rows_and_contents_in_columns(images):
    made = editing.swap(ToyClassContent(), images[[0, 9, 30]], images[[3, 6]])
    assert close(made, images[torch.tensor([[3, 2], [11, 10], [31, 30]])])


def test_transfer_goes_row_by_row(images):
    made = editing.transfer(ToyClassContent(), images[[0, 9]], images[[7, 20]])
    assert close(made, images[[3, 8]])


def test_transfer_needs_pairs(images):
    with pytest.raises(UserError, match="row by row, got 1 and 2: swap makes all pairs"):
        editing.transfer(ToyClassContent(), images[:1], images[:2])


def test_many_images_in_parts(images, monkeypatch):
    whole = editing.swap(ToyClassContent(), images[:9], images[:7])
    for module in ("passes", "swap"):
        # by its full name: the package's own name `swap` is the function
        monkeypatch.setattr(import_module(f"dcorr_models.editing.{module}"), "BATCH", 4)
    assert torch.equal(editing.swap(ToyClassContent(), images[:9], images[:7]), whole)


def test_translate_to_learned_classes(images):
    method, train = ToyClassContent(vectors=True), ToyContents().splits().train
    codes = editing.class_codes(method, train, [2, 7])
    assert codes[0].item() == pytest.approx(60 / 255)
    # of the last class the toy knows no vector: the mean of the images' codes
    _, labels = train.tensors()
    assert codes[1].item() == pytest.approx(
        method.encode(train.tensors()[0][labels == 7]).label.mean().item()
    )
    assert close(editing.translate(method, images[[1, 12]], codes)[:, 0], images[[9, 8]])


def test_classes_without_vector_and_image_are_listed():
    train = ToyContents(test_classes=3).splits().train
    method = ToyClassContent(vectors=True)
    assert editing.class_codes(method, train, [6]).shape == (1, 1)
    method = ToyClassContent()
    method.label_names = tuple("abcdefgh")
    with pytest.raises(UserError, match="no code for the classes f, h:"):
        editing.class_codes(method, train, [0, 5, 7])


def test_images_with_attributes_have_no_class():
    with pytest.raises(UserError, match="several attributes have no class"):
        editing.class_codes(ToyClassContent(), ToyAttributes().splits().train, [0])


def test_codes_of_another_width(images):
    with pytest.raises(UserError, match=r"codes must have shape \(K, 1\), got \(1, 2\)"):
        editing.translate(ToyClassContent(), images[:1], torch.zeros(1, 2))


def test_images_of_another_shape(images):
    with pytest.raises(UserError, match="images must have shape"):
        editing.swap(ToyClassContent(), images[..., :6], images)


@pytest.mark.parametrize(
    "edit",
    [
        lambda method, images: editing.swap(method, images, images),
        lambda method, images: editing.transfer(method, images, images),
        lambda method, images: editing.translate(method, images, torch.zeros(1, 4)),
        lambda method, images: editing.class_codes(method, images, [0]),
    ],
)
def test_other_methods_have_no_class_vectors(edit, images):
    with pytest.raises(UserError, match="this CDNet has no class vectors to swap: its label code"):
        edit(toy_cdnet(), images)


@pytest.mark.parametrize(
    "edit",
    [
        lambda method, images: editing.edit_class(method, images, 1),
        lambda method, images: editing.style_transfer(method, images),
        lambda method, images: editing.sweep(method, images, 0),
        lambda method, images: editing.edit_attributes(method, images, {0: 1.0}),
    ],
)
def test_class_vectors_have_no_entries_to_edit(edit, images):
    with pytest.raises(UserError, match=r"describes a class by a vector.*--class_of"):
        edit(ToyClassContent(), images)
