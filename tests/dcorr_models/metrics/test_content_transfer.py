"""Content transfer: which images are combined, known answers, and what is refused."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from dcorr_models.data import LabelledImages
from dcorr_models.errors import DataError
from dcorr_models.metrics.content_transfer import content_transfer, content_transfer_on
from dcorr_models.metrics.perceptual_distance import PixelDistance
from dcorr_models.metrics.transfer_triples import triples_by_content, triples_by_targets

CLASSES, CONTENTS = 4, 5


def grid(*, shuffled: int | None = 0, drop: int = 0) -> LabelledImages:
    """Every class in every content, as 1x2 images: the class's number beside the content's."""
    rows = torch.cartesian_prod(torch.arange(CLASSES), torch.arange(CONTENTS))
    if shuffled is not None:
        generator = torch.Generator().manual_seed(shuffled)
        rows = rows[torch.randperm(len(rows), generator=generator)]
    rows = rows[drop:]
    images = (20 * rows).to(torch.uint8).reshape(-1, 1, 1, 2)
    return LabelledImages(images, 3 * rows[:, 0], content=7 * rows[:, 1])


def swap(of_class: Tensor, of_content: Tensor) -> Tensor:
    return torch.cat([of_class[..., :1], of_content[..., 1:]], dim=-1)


@pytest.mark.parametrize("drop", [0, 3, 8])
def test_triples_ask_for_the_class_of_one_and_the_content_of_the_other(drop):
    split = grid(drop=drop)
    i, j, t = triples_by_content(split, pairs=300)
    assert torch.equal(split.labels[i], split.labels[t])
    assert torch.equal(split.content[j], split.content[t])
    assert (split.labels[i] != split.labels[j]).all()
    assert (split.content[i] != split.content[j]).all()


def test_on_a_full_grid_all_pairs_are_drawn_equally():
    split = grid()
    i, j, t = triples_by_content(split, pairs=2_400)
    counts = torch.zeros(20, 20).index_put_((i, j), torch.ones(len(i)), accumulate=True)
    possible = (split.labels[:, None] != split.labels) & (split.content[:, None] != split.content)
    assert possible.sum() == 20 * 12
    assert counts[~possible].sum() == 0
    # 10 a pair are expected; chi-square of 239 degrees has mean 239 and standard deviation 22
    chi_square = ((counts[possible] - 10) ** 2 / 10).sum()
    assert 150 < chi_square < 330
    assert t.bincount(minlength=20).min() > 80


def test_a_perfect_method_has_0_and_the_inputs_say_what_that_means():
    split = grid()
    triples = triples_by_content(split, pairs=200, seed=3)
    result = content_transfer_on(split, triples, swap, PixelDistance("l1"), seed=3)
    assert json.loads(json.dumps(result)) == result
    assert result["distance"] == "pixel L1"
    assert result["pairs"] == 200
    assert result["seed"] == 3
    for kind in ("transfer", "reconstruction"):
        assert result[kind] == {"mean": 0.0, "std": 0.0, "standard_error": 0.0}
    images = split.tensors()[0]
    i, j, t = triples
    for kind, rows in (("class_image", i), ("content_image", j)):
        wanted = (images[rows] - images[t]).abs().mean(dim=(1, 2, 3)).double()
        assert result[kind]["mean"] == pytest.approx(wanted.mean().item())
        assert result[kind]["std"] == pytest.approx(wanted.std(correction=0).item())
        error = wanted.std().item() / 200**0.5
        assert result[kind]["standard_error"] == pytest.approx(error)


def test_methods_that_ignore_an_input_have_that_inputs_distance():
    split = grid()
    triples = triples_by_content(split, pairs=100)
    copies = content_transfer_on(split, triples, lambda _, content: content, PixelDistance())
    assert copies["transfer"] == copies["content_image"]
    assert copies["reconstruction"]["mean"] == 0
    backwards = content_transfer_on(
        split, triples, lambda of_class, content: swap(content, of_class), PixelDistance()
    )
    assert backwards["transfer"]["mean"] > copies["transfer"]["mean"]


def test_the_seed_alone_decides():
    split = grid()
    first, again = (triples_by_content(split, seed=1) for _ in range(2))
    other = triples_by_content(split, seed=2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.target_rows, other.target_rows)


def test_images_are_clamped_to_the_range_of_a_picture_file():
    black, over = torch.zeros(3, 1, 2, 2), torch.full((3, 1, 2, 2), 5.0)
    assert content_transfer(over, black, PixelDistance())["mean"] == 1.0
    assert content_transfer(-over, black, PixelDistance())["mean"] == 0.0
    wide = content_transfer(over, black, PixelDistance(), value_range=(-1, 1))
    assert wide["mean"] == 1.0
    single = content_transfer(over[:1], black[:1], PixelDistance())
    assert single["standard_error"] == 0.0


def test_landmarks_choose_the_nearest_image_of_another_class():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(6, (80,), generator=generator)
    targets = torch.randn(80, 3, generator=generator)
    images = torch.zeros(80, 1, 2, 2, dtype=torch.uint8)
    split = LabelledImages(images, labels, targets=targets)
    a, c, b = triples_by_targets(split, pairs=150)
    assert torch.equal(labels[a], labels[b])
    assert (a != b).all()
    for content, true in zip(c.tolist(), b.tolist(), strict=True):
        others = (labels != labels[true]).nonzero().flatten()
        nearest = min(others.tolist(), key=lambda row: (targets[row] - targets[true]).norm())
        assert content == nearest


def with_content(content: list[int] | None, labels: list[int], **known: Tensor) -> LabelledImages:
    images = torch.zeros(len(labels), 1, 2, 2, dtype=torch.uint8)
    ids = None if content is None else torch.tensor(content)
    return LabelledImages(images, torch.tensor(labels), content=ids, **known)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (with_content(None, [0, 1]), "sprites has no content labels"),
        (with_content([0, 1, 2], [0, 0, 1]), "sprites has no image whose class is seen with"),
        (with_content([0, 0], [0, 1]), "nothing to compare"),
    ],
)
def test_data_without_an_answer_are_refused(split, message):
    with pytest.raises(DataError, match=message):
        triples_by_content(split, name="sprites")


def test_only_rows_that_have_an_answer_are_asked_for():
    # (0, 1) is the only image whose class has another content and whose content another class
    split = with_content([0, 1, 1], [0, 0, 2])
    i, j, t = triples_by_content(split, pairs=5)
    assert (i.tolist(), j.tolist(), t.tolist()) == ([0] * 5, [2] * 5, [1] * 5)


def test_attributes_are_refused():
    images = torch.zeros(2, 1, 2, 2, dtype=torch.uint8)
    split = LabelledImages(images, torch.zeros(2, 3), content=torch.arange(2))
    with pytest.raises(DataError, match="has attributes, content transfer needs one class"):
        triples_by_content(split)


def test_targets_without_an_answer_are_refused():
    with pytest.raises(DataError, match="has no targets such as landmarks"):
        triples_by_targets(with_content(None, [0, 1]))
    landmarks = torch.zeros(2, 1)
    for labels in ([0, 0], [0, 1]):
        with pytest.raises(DataError, match="needs two classes, one of them with two images"):
            triples_by_targets(with_content(None, labels, targets=landmarks))
    broken = with_content(None, [0, 1], targets=landmarks + torch.nan)
    with pytest.raises(DataError, match="targets that are NaN or infinite"):
        triples_by_targets(broken)


def test_calls_that_are_refused():
    split, x = grid(), torch.zeros(2, 1, 2, 2)
    for triples in (triples_by_content, triples_by_targets):
        known = LabelledImages(
            split.images, split.labels, content=split.content, targets=torch.zeros(20, 1)
        )
        with pytest.raises(ValueError, match="pairs must be at least 1"):
            triples(known, pairs=0)
    with pytest.raises(ValueError, match="need the same shape"):
        content_transfer(x[:1], x, PixelDistance())
    with pytest.raises(ValueError, match=r"need the same shape .* N > 0"):
        content_transfer(x[:0], x[:0], PixelDistance())
    with pytest.raises(ValueError, match="generated images must be finite"):
        content_transfer(x / 0, x, PixelDistance())
