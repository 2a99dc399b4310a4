"""Metrics of drawn samples on made-up ones whose answer is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from dcorr_models.metrics.axis_coverage import axis_coverage
from dcorr_models.metrics.class_purity import class_purity
from dcorr_models.metrics.frechet_distance import frechet_distance
from dcorr_models.metrics.image_quality import ms_ssim
from dcorr_models.metrics.inception_score import inception_score
from dcorr_models.metrics.intra_class_diversity import intra_class_diversity


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class TestInceptionScore:
    def test_certain_and_even(self):
        sure = 1000.0 * one_hot(torch.arange(40) % 5).float()
        assert inception_score(sure)["score"] == pytest.approx(5.0)

    @pytest.mark.parametrize("scores", [torch.zeros(20, 5), draw(1, 5).expand(20, 5)])
    def test_one_answer_for_all(self, scores):
        assert inception_score(scores)["score"] == pytest.approx(1.0)

    def test_uneven_classes(self):
        """A certain classifier: the perplexity of the shares of the classes."""
        labels = torch.tensor([0] * 6 + [1] * 2)
        expected = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
        found = inception_score(1000.0 * one_hot(labels, 3).float())
        assert found["score"] == pytest.approx(expected)
        assert (found["std"], found["samples"], found["classes"]) == (None, 8, 3)

    def test_duplicated_samples_change_nothing(self):
        scores = draw(30, 4)
        once, twice = inception_score(scores), inception_score(scores.repeat(2, 1))
        assert once["score"] == pytest.approx(twice["score"])

    def test_torchmetrics_agrees(self):
        from torchmetrics.image.inception import InceptionScore

        scores = 3 * draw(60, 4)
        with pytest.warns(UserWarning, match="memory"):
            other = InceptionScore(torch.nn.Flatten(), splits=1)
        other.update(scores)
        assert inception_score(scores)["score"] == pytest.approx(other.compute()[0].item())

    def test_splits(self):
        scores = 3 * draw(60, 4)
        parts, again = (inception_score(scores, splits=6, seed=1) for _ in range(2))
        assert parts == again
        assert parts["std"] > 0
        # a p(y) of few samples lies closer to each of them
        assert parts["score"] < inception_score(scores)["score"]

    @pytest.mark.parametrize("splits", [0, 21])
    def test_refusals(self, splits):
        with pytest.raises(ValueError, match=f"between 1 and the 20 samples, got {splits}"):
            inception_score(torch.zeros(20, 5), splits=splits)
        with pytest.raises(ValueError, match="scores must be finite"):
            inception_score(torch.full((2, 2), torch.nan))


class TestIntraClassDiversity:
    def test_collapsed_to_an_image_a_class(self):
        images = draw(2, 1, 24, 24).float().sigmoid().repeat_interleave(5, dim=0)
        found = intra_class_diversity(images, torch.arange(10) // 5)
        assert found["mean"] == pytest.approx(0.0, abs=1e-6)
        assert found["mean_with_self_pairs"] == pytest.approx(0.0, abs=1e-6)

    def test_the_definition(self):
        images, labels = draw(7, 3, 24, 24).float().sigmoid(), torch.tensor([4, 1, 4, 1, 4, 1, 4])
        found = intra_class_diversity(images, labels)
        expected, with_self = [], []
        for rows in ([1, 3, 5], [0, 2, 4]):
            pairs = [(i, j) for i in rows for j in rows]
            values = [ms_ssim(images[i, None], images[j, None]).item() for i, j in pairs]
            with_self.append(1 - sum(values) / 9)
            other = [v for v, (i, j) in zip(values, pairs, strict=True) if i != j]
            expected.append(1 - sum(other) / 6)
        assert found["per_class"] == pytest.approx(expected, abs=1e-6)
        assert found["mean"] == pytest.approx(sum(expected) / 2, abs=1e-6)
        assert found["mean_with_self_pairs"] == pytest.approx(sum(with_self) / 2, abs=1e-6)
        assert (found["classes"], found["images_a_class"], found["pairs"]) == ([1, 4], 3, 6)
        assert found["ms_ssim_scales"] == 2

    def test_duplicates_lower_it(self):
        """Of n images twice each, 1 in 2n - 1 pairs is a pair of equals."""
        images, labels = draw(4, 1, 12, 12).float().sigmoid(), torch.zeros(4, dtype=torch.int64)
        once = intra_class_diversity(images, labels)
        twice = intra_class_diversity(images.repeat(2, 1, 1, 1), labels.repeat(2))
        assert twice["mean"] == pytest.approx(once["mean"] * (1 - 1 / 7), abs=1e-6)
        assert twice["mean_with_self_pairs"] == pytest.approx(
            once["mean_with_self_pairs"], abs=1e-6
        )

    def test_range_and_number_of_images(self):
        images, labels = draw(8, 1, 12, 12).float().sigmoid(), torch.arange(8) % 2
        plain = intra_class_diversity(images, labels, max_images=3)
        assert plain["images_a_class"] == 3
        scaled = intra_class_diversity(
            4 * images - 2, labels, value_range=(-2.0, 2.0), max_images=3
        )
        assert scaled["mean"] == pytest.approx(plain["mean"], abs=1e-4)

    def test_refusals(self):
        labels = torch.tensor([0, 0, 1])
        with pytest.raises(ValueError, match="class 1 has 1"):
            intra_class_diversity(torch.zeros(3, 1, 12, 12), labels)
        with pytest.raises(ValueError, match="at least 11 pixels, got 8"):
            intra_class_diversity(torch.zeros(3, 1, 8, 8), labels)
        with pytest.raises(ValueError, match="max_images is 1"):
            intra_class_diversity(torch.zeros(3, 1, 12, 12), labels * 0, max_images=1)


class TestFrechetDistance:
    def test_a_shifted_and_scaled_gaussian(self):
        """d² = |m|² + Σ (σ₁ - σ₂)² for samples whose covariances are diagonal."""
        real = draw(500, 3)
        real = (real - real.mean(dim=0)) @ torch.linalg.inv(
            torch.linalg.cholesky(torch.cov(real.T)).T
        )
        scale, shift = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([3.0, 0.0, -1.0])
        found = frechet_distance(real, real * scale + shift, features="made up")
        assert found["distance"] == pytest.approx(10 + 0 + 1 + 0.25)
        assert (found["features"], found["dimensions"], found["samples"]) == ("made up", 3, 500)
        assert found["enough_samples"] is True

    def test_torchmetrics_agrees(self):
        from torchmetrics.image.fid import FrechetInceptionDistance

        class Values(torch.nn.Module):
            num_features = 4

            def forward(self, images: Tensor) -> Tensor:
                return images.flatten(1)

        real, made = draw(60, 4) @ draw(4, 4, seed=1), draw(40, 4, seed=2) + 1
        other = FrechetInceptionDistance(Values(), input_img_size=(1, 2, 2)).set_dtype(
            torch.float64
        )
        for given, kind in ((real, True), (made, False)):
            other.update(given.unflatten(1, (1, 2, 2)), real=kind)
        found = frechet_distance(real, made, features="values")["distance"]
        assert found == pytest.approx(other.compute().item(), rel=1e-6)

    def test_equal_duplicated_and_collapsed(self):
        real = draw(50, 3)
        assert frechet_distance(real, real, features="x")["distance"] == pytest.approx(0, abs=1e-9)
        order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
        shuffled = frechet_distance(real, real[order], features="x")["distance"]
        assert shuffled == pytest.approx(0, abs=1e-9)
        mean = real.mean(dim=0).expand(50, 3)
        collapsed = frechet_distance(real, mean, features="x")["distance"]
        assert collapsed == pytest.approx(torch.cov(real.T).trace().item())

    def test_fewer_samples_than_features(self):
        one, two = draw(5, 9), draw(20, 9, seed=1)
        with pytest.warns(UserWarning, match="5 samples of 9 features"):
            found = frechet_distance(one, two, features="x")
        assert found["enough_samples"] is False
        root = torch.linalg.eigvals(torch.cov(one.T) @ torch.cov(two.T))
        expected = (
            (one.mean(0) - two.mean(0)).square().sum()
            + torch.cov(one.T).trace()
            + torch.cov(two.T).trace()
            - 2 * root.real.clamp_min(0).sqrt().sum()
        )
        assert found["distance"] == pytest.approx(expected.item(), rel=1e-5)

    def test_refusals(self):
        with pytest.raises(ValueError, match="same number of dimensions, got 3 and 2"):
            frechet_distance(draw(5, 3), draw(5, 2), features="x")
        with pytest.raises(ValueError, match="samples needs at least two samples, got 1"):
            frechet_distance(draw(5, 3), draw(1, 3), features="x")


class TestClassPurity:
    LABELS = torch.arange(120) % 4

    def test_perfect(self):
        found = class_purity(10 * one_hot(self.LABELS).double() + 0.1 * draw(120, 4), self.LABELS)
        assert (found["clusters"], found["neighbours"]) == (1.0, 1.0)
        assert found["neighbours_shuffled"] == pytest.approx(0.25, abs=0.03)
        assert (found["classes"], found["samples"], found["dimensions"]) == (4, 120, 4)

    def test_codes_that_know_no_class(self):
        found = class_purity(draw(120, 4), self.LABELS)
        assert found["clusters"] == pytest.approx(found["clusters_shuffled"], abs=0.08)
        assert found["neighbours"] == pytest.approx(0.25, abs=0.06)

    def test_collapsed_codes(self):
        """One cluster has all codes: a quarter of them is of its most frequent class."""
        found = class_purity(torch.ones(120, 2), self.LABELS)
        assert found["clusters"] == found["clusters_shuffled"] == 0.25

    def test_two_classes_in_one_place(self):
        codes = (self.LABELS // 2)[:, None].double()
        found = class_purity(codes, self.LABELS, neighbours=59)
        assert found["clusters"] == 0.5
        assert found["neighbours"] == pytest.approx(29 / 59)

    def test_classes_that_are_no_blobs(self):
        """Two long bars: nearest neighbours see what k-means does not."""
        labels = torch.arange(200) % 2
        codes = torch.stack([labels * 0.5, draw(200)], dim=1) * torch.tensor([1.0, 10.0])
        found = class_purity(codes, labels, neighbours=1)
        assert found["neighbours"] > 0.9
        assert found["clusters"] < 0.7

    def test_seed_and_refusals(self):
        codes = draw(120, 4)
        assert class_purity(codes, self.LABELS, seed=3) == class_purity(codes, self.LABELS, seed=3)
        with pytest.raises(ValueError, match="two classes, got one"):
            class_purity(codes, self.LABELS * 0)
        with pytest.raises(ValueError, match="between 1 and 119"):
            class_purity(codes, self.LABELS, neighbours=120)


class TestAxisCoverage:
    @staticmethod
    def moon(n: int, seed: int, *, angles: tuple[float, float] = (0.0, 1.0)) -> Tensor:
        """Half a circle with noise, or a part of it."""
        generator = torch.Generator().manual_seed(seed)
        share = torch.rand(n, generator=generator, dtype=torch.float64)
        angle = math.pi * (angles[0] + share * (angles[1] - angles[0]))
        points = torch.stack([angle.cos(), angle.sin()], dim=1)
        return points + 0.05 * draw(n, 2, seed=seed + 100)

    def test_perfect(self):
        real = torch.cat([self.moon(2000, 0), self.moon(2000, 1) + 5])
        made = torch.cat([self.moon(500, 2), self.moon(500, 3) + 5])
        real_labels, labels = torch.arange(4000) // 2000, torch.arange(1000) // 500
        found = axis_coverage(real, real_labels, made, labels)
        assert found["coverage"] == 1.0
        assert found["per_class"] == [1.0, 1.0]
        assert max(found["wasserstein"], found["wasserstein_across"]) < 0.08
        assert (found["real_points"], found["points"]) == (2000, 500)

    def test_collapsed(self):
        real, labels = self.moon(2000, 0), torch.zeros(2000, dtype=torch.int64)
        found = axis_coverage(real, labels, real[:1].expand(50, 2), labels[:50])
        assert found["coverage"] == 1 / 20
        assert found["wasserstein"] > 0.5

    @pytest.mark.parametrize("part", [0.25, 0.5])
    def test_a_part_of_the_axis(self, part):
        real, labels = self.moon(4000, 0), torch.zeros(4000, dtype=torch.int64)
        made = self.moon(4000, 1, angles=(0.0, part))
        found = axis_coverage(real, labels, made, labels)
        # the noise of the ends of the part reaches into one bin more
        assert part - 0.05 <= found["coverage"] <= part + 0.1

    def test_a_shift_along_and_across(self):
        real = torch.stack([torch.linspace(-1, 1, 400), 0.01 * draw(400).float()], dim=1)
        labels = torch.zeros(400, dtype=torch.int64)
        along = axis_coverage(real, labels, real + torch.tensor([0.5, 0.0]), labels)
        assert along["wasserstein"] == pytest.approx(0.5, abs=1e-3)
        assert along["wasserstein_across"] < 0.01
        assert along["coverage"] == 0.75
        across = axis_coverage(real, labels, real + torch.tensor([0.0, 0.5]), labels)
        assert across["wasserstein_across"] == pytest.approx(0.5, abs=1e-3)
        assert across["coverage"] == 1.0

    def test_stray_points_are_no_coverage(self):
        real, labels = torch.linspace(0, 1, 1000)[:, None], torch.zeros(1000, dtype=torch.int64)
        made = torch.full((1000, 1), 0.5)
        made[:4] = torch.tensor([0.01, 0.2, 0.7, 0.99])[:, None]  # 50 are due to each bin
        assert axis_coverage(real, labels, made, labels)["coverage"] == 1 / 20

    def test_refusals(self):
        real, labels = torch.linspace(0, 1, 30)[:, None], torch.zeros(30, dtype=torch.int64)
        with pytest.raises(ValueError, match="at least 40 real points, one a bin, got 30"):
            axis_coverage(real, labels, real, labels, bins=40)
        with pytest.raises(ValueError, match=r"same classes, got \[0\] and \[1\]"):
            axis_coverage(real, labels, real, labels + 1)
