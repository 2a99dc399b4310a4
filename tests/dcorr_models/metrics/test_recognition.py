from __future__ import annotations

import pytest
import torch

from dcorr_models.data import BundledDigits, LabelledImages
from dcorr_models.metrics.recognition import (
    Classifier,
    recognition_rate,
    train_classifier,
)


def bars(n: int, *, value_range=(0.0, 1.0), seed: int = 0) -> LabelledImages:
    """Three classes of 12x12 images: a horizontal bar, a vertical bar, none; with noise."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 60, (n, 1, 12, 12), generator=generator, dtype=torch.uint8)
    labels = torch.arange(n) % 3
    images[labels == 0, :, 5:7] += 190
    images[labels == 1, :, :, 5:7] += 190
    return LabelledImages(images, labels, value_range=value_range)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return train_classifier(bars(300), held_out=bars(60, seed=1), epochs=4)


def test_a_classifier_learns(classifier):
    assert classifier.accuracy == 1.0
    assert (classifier.train_images, classifier.held_out_images) == (300, 60)


def test_the_rate_is_the_share_of_hits(classifier):
    images, labels = bars(90, seed=2).tensors()
    assert recognition_rate(classifier, images, labels) == 1.0
    assert recognition_rate(classifier, images, (labels + 1) % 3) == 0.0
    # a constant answer, whatever the target: one third
    assert (
        recognition_rate(classifier, images[labels == 1][:1].expand(90, 1, 12, 12), labels) == 1 / 3
    )
    half = labels.clone()
    half[:45] = (half[:45] + 1) % 3
    assert recognition_rate(classifier, images, half) == 0.5


def test_images_are_clamped_as_a_picture_file_would(classifier):
    images, labels = bars(90, seed=2).tensors()
    wild = torch.where(images > 0.5, 1e6, images)
    assert recognition_rate(classifier, wild, labels) == 1.0


def test_the_value_range_goes_with_the_classifier():
    data = bars(300, value_range=(-1.0, 1.0))
    made = train_classifier(data, epochs=4)
    assert made.value_range == (-1.0, 1.0)
    assert (made.accuracy, made.held_out_images) == (None, 0)
    images, labels = bars(60, value_range=(-1.0, 1.0), seed=1).tensors()
    assert recognition_rate(made, images, labels) == 1.0


def test_the_network_is_ready_to_judge(classifier):
    assert not classifier.network.training
    assert not any(p.requires_grad for p in classifier.network.parameters())


def test_the_seed_alone_decides():
    def weights(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed + 17)  # must not matter
        return list(
            train_classifier(bars(90), epochs=2, seed=0 if seed < 2 else 1).network.parameters()
        )

    one, same, other = weights(0), weights(1), weights(2)
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_global_random_state_rests():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    train_classifier(bars(90), held_out=bars(30), epochs=1)
    assert torch.equal(before, torch.get_rng_state())


def test_training_works_where_gradients_are_off():
    with torch.no_grad():
        made = train_classifier(bars(300), held_out=bars(60, seed=1), epochs=4)
    assert made.accuracy == 1.0


def test_held_out_images_are_not_trained_on(classifier):
    alone = train_classifier(bars(300), epochs=4)
    pairs = zip(classifier.network.parameters(), alone.network.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("n", [2, 3, 101, 199])
def test_odd_numbers_of_images(n):
    train_classifier(bars(n), epochs=1)


def test_colour_images():
    grey = bars(120)
    colour = LabelledImages(grey.images.repeat(1, 3, 1, 1), grey.labels)
    assert train_classifier(colour, held_out=colour, epochs=6).accuracy == 1.0


def test_it_reads_digits():
    digits = BundledDigits(train=1000, valid=0, test=500).splits()
    made = train_classifier(digits.train, held_out=digits.test, epochs=4)
    assert made.accuracy > 0.8  # 88% measured; a quarter of the images, an eighth of the steps


@pytest.mark.slow
def test_it_reads_at_least_96_percent_of_the_bundled_digits():
    digits = BundledDigits().splits()
    assert train_classifier(digits.train, held_out=digits.test).accuracy >= 0.96


DATA = bars(30)
ATTRIBUTES = LabelledImages(DATA.images, torch.zeros(30, 4))
OTHER_SIZE = LabelledImages(DATA.images[..., :11], DATA.labels)
ONE = LabelledImages(DATA.images[:1], DATA.labels[:1])


@pytest.mark.parametrize(
    ("train", "options", "error", "message"),
    [
        (ATTRIBUTES, {}, TypeError, "train needs one class an image as int64, got torch.float32"),
        (DATA, {"held_out": ATTRIBUTES}, TypeError, "held_out needs one class"),
        (ONE, {}, ValueError, "at least two images, got 1"),
        (DATA, {"epochs": 0}, ValueError, "epochs must be at least 1, got 0"),
        (
            DATA,
            {"held_out": OTHER_SIZE},
            ValueError,
            r"same size, got \(1, 12, 12\) and \(1, 12, 11\)",
        ),
        (DATA, {"held_out": bars(30, value_range=(-1.0, 1.0))}, ValueError, "same value range"),
    ],
)
def test_wrong_training_calls(train, options, error, message):
    with pytest.raises(error, match=message):
        train_classifier(train, **options)


IMAGES, LABELS = DATA.tensors()


@pytest.mark.parametrize(
    ("images", "targets", "error", "message"),
    [
        (IMAGES.byte(), LABELS, TypeError, "images must be floating point, got torch.uint8"),
        (IMAGES, LABELS.int(), TypeError, "targets must be int64, got torch.int32"),
        (IMAGES[0], LABELS, ValueError, r"shape \(N, C, H, W\) with N > 0, got \(1, 12, 12\)"),
        (IMAGES[:0], LABELS[:0], ValueError, r"with N > 0, got \(0, 1, 12, 12\)"),
        (IMAGES, LABELS[1:], ValueError, r"targets must have shape \(30,\) .* got \(29,\)"),
        (IMAGES / 0, LABELS, ValueError, "finite"),
    ],
)
def test_wrong_recognition_calls(classifier, images, targets, error, message):
    with pytest.raises(error, match=message):
        recognition_rate(classifier, images, targets)
