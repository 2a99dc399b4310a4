"""Probes, regression and collapse on codes whose answer is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dcorr_models.metrics.code_classifier import code_classifier, hold_out, probe_network
from dcorr_models.metrics.posterior_collapse import posterior_collapse
from dcorr_models.metrics.target_regression import target_regression

LABELS = torch.arange(400) % 4
LEARN, SCORE = hold_out(LABELS, 0.25)
CHANCE = 0.25  # four labels, equally frequent


def chance_error(samples: int) -> float:
    """Standard error of the accuracy of guesses on so many samples."""
    return (CHANCE * (1 - CHANCE) / samples) ** 0.5


def probe(codes: Tensor, labels: Tensor = LABELS, **options):
    options = {"steps": 100} | options
    return code_classifier(codes[LEARN], labels[LEARN], codes[SCORE], labels[SCORE], **options)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class TestCodeClassifier:
    def test_perfect(self):
        found = probe(torch.nn.functional.one_hot(LABELS).float())
        assert (found["accuracy"], found["chance"]) == (1.0, CHANCE)
        assert (found["train_samples"], found["test_samples"], found["classes"]) == (300, 100, 4)

    def test_constant(self):
        assert probe(torch.ones(400, 3))["accuracy"] == pytest.approx(CHANCE)

    def test_shuffled(self):
        """A label that has nothing to do with the code: learnt by heart at best."""
        found = probe(draw(400, 8), steps=200)
        # three standard errors: above guessing on the codes it has seen, no better on others
        assert found["train_accuracy"] > CHANCE + 3 * chance_error(len(LEARN))
        assert found["accuracy"] == pytest.approx(CHANCE, abs=3 * chance_error(len(SCORE)))

    @pytest.mark.parametrize("standardised", [False, True])
    def test_leak_in_one_of_many_dimensions(self, standardised):
        codes = draw(400, 8)
        codes[:, 5] = LABELS * 3.0
        found = probe(codes, steps=200, standardised=standardised)
        # The code has the label, so that 1 is the limit: after few steps it is nearer than chance.
        assert found["accuracy"] > (CHANCE + 1) / 2
        assert found["standardised"] is standardised

    def test_what_no_line_can_separate(self):
        """Exclusive or: read by the hidden layers."""
        codes = draw(400, 2).sign()
        labels = ((codes[:, 0] * codes[:, 1]) > 0).long() * 7 - 2  # any numbers
        learn, score = hold_out(labels, 0.25)
        found = code_classifier(codes[learn], labels[learn], codes[score], labels[score], steps=200)
        assert found["accuracy"] == 1.0

    def test_chance_is_the_most_frequent_label(self):
        labels = (torch.arange(400) % 10 == 0).long()
        expected = (labels[LEARN] == 0).double().mean().item()
        assert probe(torch.zeros(400, 1), labels, steps=2)["chance"] == pytest.approx(expected)

    def test_constant_coordinate_of_any_size_is_left_out(self):
        codes = torch.cat([torch.nn.functional.one_hot(LABELS), torch.full((400, 1), 1e6)], dim=1)
        assert probe(codes.float(), standardised=True)["accuracy"] == 1.0

    def test_the_seed_decides_and_the_random_state_stays(self):
        codes = draw(400, 4)
        torch.manual_seed(3)
        before = torch.get_rng_state()
        assert probe(codes, seed=1, steps=30) == probe(codes, seed=1, steps=30)
        assert torch.equal(before, torch.get_rng_state())
        with torch.no_grad():  # evaluations may be measured inside
            assert probe(codes, seed=1, steps=30)["steps"] == 30

    def test_published_layers(self):
        names = [type(layer).__name__ for layer in probe_network(8, 5)]
        assert names == ["Linear", "BatchNorm1d", "LeakyReLU"] * 2 + ["Linear"]
        assert probe_network(8, 5)[2].negative_slope == 0.2

    def test_few_codes_fill_one_batch(self):
        codes = torch.tensor([[0.0], [1.0], [0.0]])
        labels = torch.tensor([0, 1, 0])
        assert code_classifier(codes, labels, codes, labels, steps=2)["batch_size"] == 3

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"test_labels": torch.full((400,), 9)}, "among the training labels, got 9"),
            ({"train_labels": torch.zeros(400, dtype=torch.int64)}, "at least two labels"),
            ({"test_codes": torch.zeros(400, 4)}, "same number of dimensions, got 3 and 4"),
            ({"train_codes": torch.full((400, 3), torch.nan)}, "finite"),
            ({"test_labels": LABELS[:5]}, r"must have shape \(400,\)"),
            ({"steps": 0}, "steps must be 1 or more"),
        ],
    )
    def test_refusals(self, change, words):
        given = {"train_codes": torch.zeros(400, 3), "train_labels": LABELS}
        given |= {"test_codes": torch.zeros(400, 3), "test_labels": LABELS, "steps": 1}
        with pytest.raises(ValueError, match=words):
            code_classifier(**(given | change))

    def test_labels_are_integers(self):
        with pytest.raises(TypeError, match="train_labels must be int64"):
            probe(torch.zeros(400, 3), LABELS.float())


class TestHoldOut:
    def test_every_label_keeps_and_gives_its_share(self):
        learn, score = hold_out(LABELS, 0.2, seed=4)
        assert torch.cat([learn, score]).sort().values.tolist() == list(range(400))
        assert LABELS[score].bincount().tolist() == [20] * 4
        assert not torch.equal(score, hold_out(LABELS, 0.2, seed=5)[1])

    def test_a_single_row_stays(self):
        learn, score = hold_out(torch.tensor([3, 8, 8]), 0.9)
        assert 0 in learn
        assert len(score) == 1

    @pytest.mark.parametrize("share", [0.0, 1.0, -0.5])
    def test_share(self, share):
        with pytest.raises(ValueError, match="between 0 and 1"):
            hold_out(LABELS, share)


class TestTargetRegression:
    def test_linear_codes_are_exact_beyond_the_training_range(self):
        codes, weights = draw(50, 3).double(), draw(3, 2, seed=1).double()
        targets = codes @ weights + 5
        found = target_regression(
            codes[:30], targets[:30], 9 * codes[30:], 9 * (targets[30:] - 5) + 5
        )
        assert found["mean_absolute"] < 1e-9
        assert found["rmse"] < 1e-9 < found["rmse_unread"]

    def test_constant_codes_read_nothing(self):
        targets = draw(60, 2)
        found = target_regression(torch.ones(40, 3), targets[:40], torch.ones(20, 3), targets[40:])
        assert found["per_target"] == pytest.approx(found["per_target_unread"])
        expected = (targets[40:] - targets[:40].mean(dim=0)).abs().mean(dim=0)
        assert found["per_target"] == pytest.approx(expected.tolist(), rel=1e-5)

    def test_shuffled_codes_are_no_better_than_the_mean(self):
        codes, targets = draw(2000, 3), draw(2000, 1, seed=1)
        found = target_regression(codes[:1500], targets[:1500], codes[1500:], targets[1500:])
        # 3 weights off by 1/√1500 each move an answer by δ = √(3/1500) (r.m.s.), where a target's
        # mean size is √(2/π): δ²/√(2π) more on average, give or take 3 δ/√500.
        delta = (3 / 1500) ** 0.5
        margin = delta**2 / (2 * torch.pi) ** 0.5 + 3 * delta / 500**0.5
        assert found["mean_absolute"] == pytest.approx(found["mean_absolute_unread"], abs=margin)

    def test_more_dimensions_than_images(self):
        codes, targets = draw(5, 20), draw(5, 2)
        found = target_regression(codes, targets, codes, targets, unit="pixel")
        assert found["mean_absolute"] < 1e-9  # solved exactly, in float64
        assert (found["unit"], found["targets"], found["dimensions"]) == ("pixel", 2, 20)

    def test_matches_scikit_learn(self):
        linear = pytest.importorskip("sklearn.linear_model")
        codes, targets = draw(80, 4).double(), draw(80, 3, seed=1).double()
        model = linear.LinearRegression().fit(codes[:50].numpy(), targets[:50].numpy())
        error = abs(model.predict(codes[50:].numpy()) - targets[50:].numpy())
        found = target_regression(codes[:50], targets[:50], codes[50:], targets[50:])
        assert found["per_target"] == pytest.approx(error.mean(axis=0).tolist())

    @pytest.mark.parametrize(
        ("shapes", "words"),
        [
            (((9, 3), (8, 2), (5, 3), (5, 2)), "train_codes and train_targets .* samples"),
            (((9, 3), (9, 2), (5, 4), (5, 2)), "train_codes and test_codes .* columns"),
            (((9, 3), (9, 2), (5, 3), (5, 1)), "train_targets and test_targets .* columns"),
        ],
    )
    def test_refusals(self, shapes, words):
        with pytest.raises(ValueError, match=words):
            target_regression(*(torch.zeros(*shape) for shape in shapes))


class TestPosteriorCollapse:
    def test_the_paper_s_figure(self):
        """Two of six dimensions in use: means far from 0, small deviations."""
        mean, logvar = torch.zeros(500, 6), torch.zeros(500, 6)
        mean[:, :2], logvar[:, :2] = 3 * draw(500, 2), -6.0
        found = posterior_collapse(mean, logvar)
        assert (found["at_prior"], found["dimensions"], found["samples"]) == (4, 6, 500)
        assert found["std"] == pytest.approx([torch.tensor(-3.0).exp().item()] * 2 + [1.0] * 4)
        # three standard errors of the mean of 500 absolute values of N(0, 3²)
        error = 3 * (1 - 2 / torch.pi) ** 0.5 / 500**0.5
        assert found["absolute_mean"][0] == pytest.approx(3 * (2 / torch.pi) ** 0.5, abs=3 * error)
        assert found["divergence"][2:] == [0.0] * 4

    @pytest.mark.parametrize(("mu", "logvar"), [(0.2, 0.0), (0.0, -0.3), (0.0, 0.3)])
    def test_off_the_prior(self, mu, logvar):
        found = posterior_collapse(torch.full((4, 1), mu), torch.full((4, 1), logvar))
        assert found["at_prior"] == 0
        assert posterior_collapse(*([torch.zeros(4, 1)] * 2))["at_prior"] == 1

    def test_divergence_is_torch_s(self):
        mean, logvar = draw(7, 3), draw(7, 3, seed=1)
        posterior = torch.distributions.Normal(mean, (logvar / 2).exp())
        wanted = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0))
        found = posterior_collapse(mean, logvar)["divergence"]
        assert found == pytest.approx(wanted.mean(dim=0).tolist(), rel=1e-5)

    def test_refusals(self):
        with pytest.raises(ValueError, match="one shape"):
            posterior_collapse(torch.zeros(3, 2), torch.zeros(3, 1))
        with pytest.raises(ValueError, match="tolerance must be above 0"):
            posterior_collapse(torch.zeros(3, 2), torch.zeros(3, 2), tolerance=0.0)
