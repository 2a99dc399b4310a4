"""Styles within classes and super-classes: known clusters are found, impossible ones refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dcorr_models.data import DataSource, LabelledImages, Splits
from dcorr_models.errors import DataError
from dcorr_models.methods.style_clusters import StyleClusters, SuperClasses, style_clusters
from tests.dcorr_models.toy import ToyAttributes, ToyContents


class TwoStyles(DataSource):
    """Two classes, left and right, each with dark and light images."""

    name = "two styles"

    def __init__(self, *, drawn: bool = False) -> None:
        self.image_shape, self.label_names, self.drawn = (1, 4, 4), ("left", "right"), drawn

    def splits(self) -> Splits:
        return Splits(self._draw(12), self._draw(4), self._draw(8))

    def _draw(self, n: int) -> LabelledImages:
        labels, light = torch.arange(n) % 2, (torch.arange(n) // 2) % 2
        images = torch.zeros(n, 1, 4, 4, dtype=torch.uint8)
        for i in range(n):
            images[i, 0, :, 2 * int(labels[i]) :][:, :2] = 60 + 150 * int(light[i]) + i % 3
        kind = Drawn if self.drawn else LabelledImages
        return kind(images, labels, content=light)


class Drawn(LabelledImages):
    """Makes its images when they are asked for."""

    def __getitems__(self, indices) -> dict[str, Tensor]:
        return super().__getitems__(indices)


@pytest.mark.parametrize("drawn", [False, True])
def test_styles_of_each_class_are_found_in_all_splits(drawn: bool):
    source = StyleClusters(TwoStyles(drawn=drawn), styles=2, features="pixels")
    assert source.label_names == (
        "left, style 1", "left, style 2", "right, style 1", "right, style 2"
    )  # fmt: skip
    for old, new in zip(TwoStyles(drawn=drawn).splits(), source.splits(), strict=True):
        assert torch.equal(new.labels // 2, old.labels)
        for k in range(2):
            dark, light = (new.labels[(old.labels == k) & (new.content == s)] for s in (0, 1))
            assert len({*dark.tolist()}) == len({*light.tolist()}) == 1
            assert dark[0] != light[0]
        batch, before = new.__getitems__([1, 0]), old.__getitems__([1, 0])
        assert torch.equal(batch["image"], before["image"])
        assert torch.equal(batch["label"], new.labels[[1, 0]])
        assert new.__getitems__([1, 0])["index"].tolist() == [1, 0]


def test_the_same_seed_gives_the_same_styles():
    images, labels = TwoStyles().splits().train.tensors()
    one, other = (style_clusters(images, labels, lambda x: x.flatten(1), 3) for _ in range(2))
    assert torch.equal(one, other)


def test_more_styles_than_images_of_a_class_are_refused_with_the_class():
    with pytest.raises(DataError, match=r"7 styles need .* left \(6\), right \(6\); set styles"):
        StyleClusters(TwoStyles(), styles=7, features="pixels").splits()
    images, labels = torch.rand(3, 1, 2, 2), torch.tensor([4, 4, 9])
    with pytest.raises(DataError, match=r"classes have fewer: 9 \(1\)"):
        style_clusters(images, labels, lambda x: x.flatten(1), 2)


def test_classes_without_training_images_have_no_styles():
    with pytest.raises(DataError, match="no styles: g, h"):
        StyleClusters(ToyContents(test_classes=2), styles=2, features="pixels").splits()


def test_super_classes_merge_the_classes_that_look_alike_and_take_in_those_of_the_test_split():
    source = SuperClasses(ToyContents(test_classes=2), super_classes=2, features="pixels")
    parts, old = source.splits(), ToyContents(test_classes=2).splits()
    # The grey level rises with the class: low ones together, high ones together, all images of a
    # class together.
    merged = {}
    for new, before in zip(parts, old, strict=True):
        for a, b in zip(before.labels.tolist(), new.labels.tolist(), strict=True):
            assert merged.setdefault(a, b) == b
    assert len({merged[k] for k in (0, 1, 2)}) == 1
    assert len({merged[k] for k in (3, 4, 5, 6, 7)}) == 1
    assert merged[0] != merged[7]
    assert torch.equal(parts.test.content, old.test.content)
    with pytest.raises(DataError, match="6 classes with training images, which cannot be merged"):
        SuperClasses(ToyContents(test_classes=2), super_classes=7, features="pixels").splits()


def test_what_cannot_be_clustered_is_refused():
    with pytest.raises(DataError, match="only classes can be clustered"):
        StyleClusters(ToyAttributes())
    with pytest.raises(DataError, match="styles must be 1 or more, got 0"):
        StyleClusters(TwoStyles(), styles=0)
    with pytest.raises(DataError, match="features must be pixels"):
        StyleClusters(TwoStyles(), styles=1, features="colour").splits()


def test_settings_name_the_wrapped_data():
    settings = StyleClusters(TwoStyles(), styles=2, features="pixels").settings()
    assert settings["init_args"]["source"]["init_args"] == {"drawn": False}
