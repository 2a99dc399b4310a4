"""Evaluation of drawn images whose every number is known."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from dcorr_models.data import BundledDigits, LabelledImages, Splits
from dcorr_models.data.three_moons import ThreeMoons
from dcorr_models.errors import UserError
from dcorr_models.evaluation import ClassContentProtocol, GenerationProtocol, evaluate
from dcorr_models.evaluation.generation import draw_samples
from dcorr_models.methods import CVAE
from dcorr_models.methods.class_conditional import ClassConditional
from dcorr_models.metrics.recognition import train_classifier
from dcorr_models.training.stage import Stage
from tests.dcorr_models.toy import (
    ToyContents,
    ToyGaussians,
    ToyImages,
    ToySamples,
    toy_cdnet,
)


class Corners(nn.Module):
    """Two features, so that few samples are enough."""

    def forward(self, images: Tensor) -> Tensor:
        return images[:, 0, ::6, ::6].flatten(1)[:, :2]


QUICK = GenerationProtocol(samples=12, classifier_epochs=16, diversity_images=6, features=Corners())
CODES = ClassContentProtocol(distance="l1", pairs=5, probe_steps=3)
SPLITS = ToyImages(train=160).splits()


@pytest.fixture(scope="module")
def exact():
    return evaluate(ToySamples(), SPLITS, generation=QUICK)


def test_a_perfect_method(exact):
    assert exact["kind"] == "generation"
    assert (exact["num_images"], "reconstruction" in exact) == (48, False)
    found = exact["generation"]
    assert (found["samples_from"], found["classes"], found["samples_per_class"]) == ("noise", 4, 12)
    assert found["recognised"]["rate"] == found["classifier"]["accuracy"] == 1.0
    assert found["recognised"]["per_class"] == [1.0] * 4
    assert found["inception"]["score"] == pytest.approx(found["inception"]["of_real"], rel=0.02)
    assert 3 < found["inception"]["score"] <= 4
    assert found["diversity"]["mean"] == pytest.approx(found["diversity"]["of_real"], abs=0.05)
    assert found["frechet"]["features"] == "Corners"
    assert found["frechet"]["distance"] < 0.01
    assert found["frechet"]["enough_samples"] is True
    assert found["skipped"] == {}
    assert json.loads(json.dumps(exact, allow_nan=False)) == exact


def test_collapsed_samples(exact):
    found = evaluate(ToySamples(collapsed=True), SPLITS, generation=QUICK)["generation"]
    assert found["recognised"]["rate"] == 1.0
    assert found["diversity"]["mean"] == pytest.approx(0, abs=1e-4)
    assert found["frechet"]["distance"] > exact["generation"]["frechet"]["distance"]
    assert found["inception"]["score"] > 3  # which sees no collapse within a class


def test_samples_of_another_class_than_asked_for():
    found = evaluate(ToySamples(wrong=True), SPLITS, generation=QUICK)["generation"]
    assert found["recognised"]["rate"] == 0.0
    assert found["inception"]["score"] > 3  # which does not know what was asked for


def test_the_seed_decides_and_random_state_stays(exact):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    again = evaluate(ToySamples(), SPLITS, generation=QUICK)
    assert torch.equal(before, torch.get_rng_state())
    assert {**again, "seconds": 0} == {**exact, "seconds": 0}
    other = evaluate(ToySamples(), SPLITS, seed=1, generation=QUICK)
    assert other["generation"]["frechet"] != exact["generation"]["frechet"]


def test_training_images_without_a_label_teach_nothing():
    labels = SPLITS.train.labels.clone()
    labels[40:] = -1
    train = LabelledImages(SPLITS.train.images, labels)
    found = evaluate(ToySamples(), SPLITS._replace(train=train), generation=QUICK)["generation"]
    assert found["classifier"]["images"] == 40
    assert found["classes"] == 4


def test_classes_that_cannot_be_drawn():
    found = evaluate(ToySamples(known=3), SPLITS, generation=QUICK)["generation"]
    assert found["recognised"]["classes"] == [0, 1, 2]
    assert found["skipped"]["classes"].startswith("3: not known to the method")
    with pytest.raises(UserError, match="fewer than two classes that can be drawn"):
        evaluate(ToySamples(known=1), SPLITS, generation=QUICK)


def test_class_codes_beside_drawn_images():
    """Two of eight classes without a Gaussian: their class codes come from images of them."""
    data = ToyContents(copies=8)
    result = evaluate(ToyGaussians(known=6), data.splits(), transfer=CODES, generation=QUICK)
    assert result["kind"] == "class_content"
    assert result["purity"]["clusters"] == result["purity"]["neighbours"] == 1.0
    assert result["purity"]["k"] == 3  # a class has four test images
    # the content codes are the same in each class
    assert result["leakage"]["linear_probe"] == pytest.approx(1 / 8, abs=0.13)
    found = result["generation"]
    unseen, known = (found["from_images"][name] for name in ("unseen", "known"))
    assert (unseen["classes"], known["classes"]) == ([6, 7], [0, 1, 2, 3, 4, 5])
    assert (unseen["images"], known["images"]) == (8, 24)
    assert found["classes"] == 6


class ToyMoons(ClassConditional):
    """Draws points of the three moons from the middle of each, as wide as asked for."""

    has_encoder = False
    samples_from = "angles"
    image_shape, num_labels, value_range = (2, 1, 1), 3, (-4.0, 4.0)

    def __init__(self, *, part: float = 1.0) -> None:
        super().__init__()
        self.part, self.anchor = part, nn.Parameter(torch.zeros(()))

    def stages(self) -> list[Stage]:
        return []

    def sample(self, labels: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        angle = self.part * torch.pi * (torch.rand(len(labels), generator=generator) - 0.5)
        points = torch.stack([(labels - 1) * 2.2 + angle.cos(), angle.sin()], dim=1)
        noise = 0.15 * torch.randn(points.shape, generator=generator)
        return (points + noise)[:, :, None, None]


def test_points():
    splits = ThreeMoons(train=900, valid=0, test=1800).splits()
    points = GenerationProtocol(samples=300)
    whole = evaluate(ToyMoons(), splits, generation=points)["generation"]
    assert whole["coverage"]["coverage"] == whole["coverage"]["of_real"] == 1.0
    assert whole["frechet"]["features"] == "pixels"
    assert whole["frechet"]["distance"] < 0.05
    assert whole["skipped"] == {"inception, recognised and diversity": "points are no images"}
    middle = evaluate(ToyMoons(part=0.2), splits, generation=points)["generation"]
    assert 0.3 < middle["coverage"]["coverage"] < 0.6
    assert middle["coverage"]["wasserstein"] > 2 * whole["coverage"]["wasserstein"]
    few = Splits(splits.train, splits.valid, ThreeMoons(train=3, test=30).splits().test)
    found = evaluate(ToyMoons(), few, generation=points)["generation"]
    assert found["skipped"]["coverage"] == "a class has 10 test points, fewer than the bins"


def test_small_images():
    images = torch.arange(40, dtype=torch.uint8).reshape(40, 1, 1, 1).expand(40, 1, 3, 3)
    split = LabelledImages(images.contiguous(), torch.arange(40) % 2)

    class Small(ToySamples):
        def sample(self, labels: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
            return torch.rand(len(labels), 1, 3, 3, generator=generator)

    splits = Splits(split, split, split)
    found = evaluate(Small(), splits, generation=GenerationProtocol(samples=4))["generation"]
    assert set(found["skipped"]) == {"diversity", "inception and recognised", "frechet"}
    chosen = GenerationProtocol(samples=12, features="pixels")
    found = evaluate(Small(), splits, generation=chosen)["generation"]
    assert found["frechet"]["dimensions"] == 9


def test_broken_weights_are_named():
    method = ToySamples()
    method.sample = lambda labels, generator: torch.full((len(labels), 1, 12, 12), torch.nan)
    with pytest.raises(UserError, match="drawn by this ToySamples hold NaN or infinity"):
        draw_samples(method, torch.arange(2), 3, seed=0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"samples": 1}, "samples must be 2 or more"),
        ({"splits": 0}, "splits must be 1 or more"),
        ({"splits": 101}, "at most the 100 samples of a class, got 101"),
        ({"bins": 1}, "bins must be 2 or more"),
        ({"neighbours": 0}, "neighbours must be 1 or more"),
    ],
)
def test_protocol(options, words):
    with pytest.raises(UserError, match=words):
        GenerationProtocol(**options)


def test_options_of_another_kind_of_method():
    with pytest.raises(UserError, match=r"CDNet draws no images of a class.*--generation"):
        evaluate(toy_cdnet(), SPLITS, generation=QUICK)
    with pytest.raises(UserError, match=r"ToySamples has no class and content codes.*--transfer"):
        evaluate(ToySamples(), SPLITS, transfer=CODES)


def test_one_classifier_judges_edits_and_drawn_images(monkeypatch):
    trained = []

    def counted(*arguments, **keywords):
        trained.append(keywords["epochs"])
        return train_classifier(*arguments, **keywords)

    for module in ("evaluation.generation", "metrics.recognition"):
        monkeypatch.setattr(f"dcorr_models.{module}.train_classifier", counted)
    method = CVAE(architecture="mnist_small", latent_dim=2, steps=0)
    splits = BundledDigits(train=60, valid=10, test=40).splits()
    result = evaluate(
        method, splits, generation=GenerationProtocol(samples=2, classifier_epochs=1, splits=1)
    )
    assert trained == [1]
    found = result["generation"]["classifier"]["accuracy"]
    assert result["editing"]["classifier_accuracy"] == found


class Unfit(nn.Module):
    def forward(self, images):
        raise ValueError("images are\n too small")


def test_features_that_cannot_be_read_are_refused_at_once():
    protocol = GenerationProtocol(samples=4, features=Unfit())
    with pytest.raises(UserError, match=r"features Unfit .* \(1, 12, 12\): images are too small;"):
        evaluate(ToySamples(), ToyImages().splits(), generation=protocol)
