"""No label (-1) is read as a class by nobody who asks for classes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from dcorr_models.admission import admit
from dcorr_models.data import LabelledImages, PartlyLabelled, Splits
from dcorr_models.data.views import labelled_part
from dcorr_models.editing.swap import class_codes, example_rows
from dcorr_models.errors import UserError
from dcorr_models.evaluation import evaluate
from dcorr_models.evaluation.class_protocol import ClassContentProtocol
from dcorr_models.metrics.class_purity import class_purity
from dcorr_models.metrics.leakage import leakage
from dcorr_models.metrics.recognition import train_classifier
from dcorr_models.metrics.transfer_triples import triples_by_content, triples_by_targets
from dcorr_models.report.class_content import shown_classes, translation_grid
from tests.dcorr_models.toy import ToyClassContent, ToyContents, ToyImages, toy_cdnet


def contents() -> Splits:
    return PartlyLabelled(ToyContents(), unknown_classes=["a"], labelled=8).splits()


def test_evaluation_learns_on_labelled_images_alone():
    splits = PartlyLabelled(ToyImages(), unknown_classes=["3"], labelled=6).splits()
    method = toy_cdnet().eval()
    whole = evaluate(method, splits)
    part = evaluate(method, splits._replace(train=labelled_part(splits.train)))
    assert {**whole, "seconds": 0} == {**part, "seconds": 0}


def test_evaluation_of_class_and_content_codes_too():
    protocol = ClassContentProtocol(distance="mse", probe_steps=20, pairs=20)
    probes = evaluate(ToyClassContent(), contents(), transfer=protocol)["probes"]
    assert probes["class_from_content"]["classes"] == 7


def test_pictures_show_known_classes():
    splits = contents()
    assert shown_classes(splits.train) == list(range(1, 8))
    page = translation_grid(ToyClassContent(vectors=True), splits, "abcdefgh")
    assert "as each class, by column: b, c, d, e, f, g, h" in page
    rows = example_rows(splits.train, 7)
    assert splits.train.labels[rows].sort().values.tolist() == list(range(1, 8))


def test_class_codes_are_those_of_labelled_images():
    splits, method = contents(), ToyClassContent()
    codes = class_codes(method, splits.train, [1, 7])
    torch.testing.assert_close(codes[:, 0], torch.tensor([30.0, 210.0]) / 255, rtol=0, atol=0.01)
    with pytest.raises(UserError, match=r"no code for the classes 0"):
        class_codes(method, splits.train, [0])


def half(split: LabelledImages) -> LabelledImages:
    split.labels[::2] = -1
    return split


@pytest.mark.parametrize(
    ("reads", "message"),
    [
        (lambda s: train_classifier(half(s.train)), "64 of 128 of train have no label"),
        (lambda s: train_classifier(s.train, held_out=half(s.test)), "16 of 32 of held_out"),
        (lambda s: triples_by_content(half(s.test)), "16 of 32 of the data set have no label"),
        (lambda s: triples_by_targets(half(s.test)), "16 of 32 of the data set have no label"),
        (
            lambda s: class_purity(torch.rand(32, 2), half(s.test).labels),
            "16 of 32 of codes have no label",
        ),
        (
            lambda s: leakage(
                torch.rand(128, 2), half(s.train).labels, torch.rand(32, 2), s.test.labels
            ),
            "train_labels must be counted from 0, got -1",
        ),
        (
            lambda s: admit(
                toy_cdnet(), ToyImages(), _with(half(ToyImages().splits().test)), [], processes=1
            ),
            "24 of 48 of the test split of toy have no label",
        ),
    ],
)
def test_who_asks_for_classes_refuses_images_without(
    reads: Callable[[Splits], object], message: str
):
    with pytest.raises(ValueError, match=message):
        reads(ToyContents().splits())


def _with(test: LabelledImages) -> Splits:
    return ToyImages().splits()._replace(test=test)
