from __future__ import annotations

import pytest
import torch

from dcorr_models.data import PartlyLabelled, Sprites
from dcorr_models.data.views import labelled_part, relabelled, some_rows
from dcorr_models.errors import DataError
from dcorr_models.methods.style_clusters import StyleClusters
from dcorr_models.option_parser import BASES, Parser
from tests.dcorr_models.toy import ToyAttributes, ToyImages


def counts(labels: torch.Tensor) -> list[int]:
    """Images of -1, 0, 1, 2 and 3."""
    return (labels + 1).bincount(minlength=5).tolist()


def test_unknown_classes_and_a_share_of_the_others():
    data = PartlyLabelled(ToyImages(), unknown_classes=["2", 3], labelled=0.25)
    train, valid, test = data.splits()
    assert counts(train.labels) == [84, 6, 6, 0, 0]
    plain = ToyImages().splits()
    assert torch.equal(train.images, plain.train.images)
    known = train.labels >= 0
    assert torch.equal(train.labels[known], plain.train.labels[known])
    for part, whole in zip((valid, test), plain[1:], strict=True):
        assert torch.equal(part.labels, whole.labels)


def test_metrics_know_every_label():
    data = PartlyLabelled(ToyImages(), labelled=1)
    assert torch.equal(data.evaluation_splits().train.labels, ToyImages().splits().train.labels)


@pytest.mark.parametrize(("labelled", "each"), [(1.0, 24), (1, 1), (5, 5), (0.001, 1), (0.5, 12)])
def test_how_many_keep_their_label(labelled, each):
    train = PartlyLabelled(ToyImages(), labelled=labelled).splits().train
    assert counts(train.labels) == [96 - 4 * each] + [each] * 4


def test_the_seed_chooses():
    one, again, other = (
        PartlyLabelled(ToyImages(), labelled=3, seed=s).splits().train.labels for s in (0, 0, 1)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_what_is_drawn_at_access_time_is_still_drawn():
    source = Sprites(size=8, colours=1, scales=2, orientations=2, positions=2)
    plain = source.splits().train
    train = PartlyLabelled(source, unknown_classes=[0], labelled=2).splits().train
    rows = [5, 0, 7]
    hidden, known = train.__getitems__(rows), plain.__getitems__(rows)
    assert torch.equal(hidden["image"], known["image"])
    assert hidden["label"].tolist() == train.labels[rows].tolist()
    assert hidden["index"].tolist() == rows
    assert train.content is not None
    assert torch.equal(train.content, plain.content)


@pytest.mark.parametrize("drawn", [True, False])
def test_the_labelled_part_of_a_split(drawn):
    source = Sprites(size=8, colours=1, scales=2, orientations=2, positions=2, keep=not drawn)
    plain = source.splits().train
    train = PartlyLabelled(source, labelled=2).splits().train
    part = labelled_part(train)
    rows = (train.labels >= 0).nonzero().flatten()
    assert len(part) == len(rows) == 6
    images, labels = part.tensors()
    assert torch.equal(images, plain.__getitems__(rows.tolist())["image"])
    assert torch.equal(labels, plain.labels[rows])
    assert torch.equal(part.content, plain.content[rows])
    assert torch.equal(part.targets, plain.targets[rows])
    assert part[3]["index"].item() == 3
    assert labelled_part(plain) is plain
    assert torch.equal(some_rows(relabelled(plain, train.labels), rows).tensors()[0], images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labelled": 0}, "labelled must be a share above 0 and up to 1.0, .* got 0"),
        ({"labelled": 1.5}, "got 1.5"),
        ({"labelled": -0.1}, "got -0.1"),
        ({"labelled": 25}, "25 images of each class, and class 0 of toy has 24 to train on"),
        ({"unknown_classes": ["0", "7"]}, "unknown_classes: no class '7'"),
        ({"unknown_classes": [4]}, "numbered from 0 to 3, got 4"),
        ({"unknown_classes": [0, 1, 2, "3"]}, "unknown_classes are all 4 classes of toy"),
        ({"seed": -1}, "seed must be from 0"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(DataError, match=message):
        PartlyLabelled(ToyImages(), **options).splits()


def test_attributes_have_no_unknown_class():
    with pytest.raises(DataError, match="has attributes, and only classes can be unknown"):
        PartlyLabelled(ToyAttributes())


def test_clusters_are_made_of_labelled_images():
    inside = StyleClusters(PartlyLabelled(ToyImages(), labelled=2), styles=2, features="pixels")
    with pytest.raises(DataError, match=r"88 images .* have no label .* around StyleClusters, not"):
        inside.splits()
    around = PartlyLabelled(StyleClusters(ToyImages(), styles=2, features="pixels"), labelled=2)
    assert (around.splits().train.labels >= 0).sum() == 16


@pytest.mark.parametrize(("word", "value"), [("1", 1), ("1.0", 1.0), ("0.5", 0.5)])
def test_the_command_line_tells_a_share_from_a_number(word, value):
    parser = Parser()
    parser.add_subclass_arguments(BASES["data"], "data", required=True)
    options = parser.parse_args(
        ["--data=PartlyLabelled", "--data.data=BundledDigits", f"--data.labelled={word}",
         "--data.unknown_classes=['8', 9]"]
    )  # fmt: skip
    data = parser.instantiate(options).data
    assert type(data.labelled) is type(value)
    assert data.labelled == value
    assert data.unknown == [8, 9]
    again = parser.instantiate(parser.parse_object({"data": data.settings()})).data
    assert type(again.labelled) is type(value)
    assert again.settings() == data.settings()
