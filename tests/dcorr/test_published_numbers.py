"""Values that were printed elsewhere, for data that anyone has."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from torch import Tensor
from torch.testing import assert_close

import dcorr.dcor_names as names
from dcorr import dcor, dcor2, dcov, dcov2, dvar2
from tests.dcorr.methods import METHODS
from tests.dcorr.oracle import draw

F64 = torch.float64


def tensor(rows: object) -> Tensor:
    return torch.tensor(rows, dtype=F64)


def rows_of_four() -> tuple[Tensor, Tensor]:
    return torch.arange(1.0, 17.0, dtype=F64).reshape(4, 4), tensor([[1.0], [0.0], [0.0], [1.0]])


# -- the examples in the documentation of the package dcor -----------------------------------------


@pytest.mark.many_features
@pytest.mark.parametrize(
    ("exponent", "biased", "correlation", "unbiased", "bias_corrected"),
    [
        (1.0, 1.0, 0.2773500981, -2.6666666667, -0.5),
        (0.5, 0.3705904774, 0.4493308100, -0.2996598285, -0.4050479210),
    ],
)
def test_examples_of_dcor(
    method: str,
    exponent: float,
    biased: float,
    correlation: float,
    unbiased: float,
    bias_corrected: float,
) -> None:
    a, b = rows_of_four()
    options = {"exponent": exponent, "method": method}
    assert dcov2(a, b, **options).item() == pytest.approx(biased, abs=1e-10)
    assert dcor2(a, b, **options).item() == pytest.approx(correlation, abs=1e-10)
    assert dcov2(a, b, unbiased=True, **options).item() == pytest.approx(unbiased, abs=1e-10)
    assert dcor2(a, b, unbiased=True, **options).item() == pytest.approx(bias_corrected, abs=1e-10)


@pytest.mark.many_features
def test_variances_of_the_examples_of_dcor(method: str) -> None:
    a, b = rows_of_four()
    assert dvar2(a, method=method).item() == pytest.approx(52.0)
    assert dvar2(b, method=method).item() == pytest.approx(0.25)
    assert dvar2(a, unbiased=True, method=method).item() == pytest.approx(128 / 3)
    assert dvar2(b, unbiased=True, method=method).item() == pytest.approx(2 / 3)
    u = dvar2(a, unbiased=True, exponent=0.5, method=method).item()
    assert u == pytest.approx(0.8209855203, abs=1e-10)
    assert dcor(a, b, method=method).item() == pytest.approx(0.5266403, abs=1e-7)


# -- six points, in fractions ----------------------------------------------------------------------


def six_points() -> tuple[Tensor, Tensor]:
    return torch.arange(1.0, 7.0, dtype=F64), tensor([1.0, 7.0, 5.0, 5.0, 6.0, 2.0])


def test_six_points(method: str) -> None:
    x, y = six_points()
    assert dcov2(x, y, method=method).item() == pytest.approx(37 / 54)
    assert dvar2(x, method=method).item() == pytest.approx(553 / 324)
    assert dvar2(y, method=method).item() == pytest.approx(79 / 27)
    assert dcor2(x, y, method=method).item() == pytest.approx(0.30661, abs=5e-6)
    u = {"unbiased": True, "method": method}
    assert dcov2(x, y, **u).item() == pytest.approx(-8 / 9)
    assert dvar2(x, **u).item() == pytest.approx(14 / 9)
    assert dvar2(y, **u).item() == pytest.approx(44 / 15)
    assert dcor2(x, y, **u).item() == pytest.approx(-0.41613, abs=5e-6)


@pytest.mark.many_features
@pytest.mark.parametrize(
    ("exponent", "covariance", "correlation"),
    [(0.5, 0.3074645501, 0.6379098573), (1.5, 1.2305346120, 0.1132899256)],
)
def test_six_points_with_exponents(
    method: str, exponent: float, covariance: float, correlation: float
) -> None:
    x, y = six_points()
    options = {"exponent": exponent, "method": method}
    assert dcov2(x, y, **options).item() == pytest.approx(covariance, abs=1e-10)
    assert dcor2(x, y, **options).item() == pytest.approx(correlation, abs=1e-10)


def test_gradient_of_six_points(method: str) -> None:
    x, y = six_points()
    x.requires_grad_()
    dcov2(x, y, method=method).backward()
    published = [-0.2407407407, 0.0925925926, 0.0925925926, -0.0185185185, -0.0925925926]
    assert_close(x.grad, tensor([*published, 0.1666666667]), rtol=0, atol=1e-10)


@pytest.mark.many_features
def test_exponent_two_is_the_squared_covariance(method: str) -> None:
    x, y = six_points()
    assert dcov2(x, y, exponent=2.0, method=method).item() == pytest.approx(1 / 9)


# -- other printed values --------------------------------------------------------------------------


@pytest.mark.many_features
def test_three_by_three(method: str) -> None:
    first = tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
    second = tensor([[7.0, 3.0, 6.0], [2.0, 1.0, 4.0], [3.0, 8.0, 1.0]])
    assert dcor2(first, second, method=method).item() == pytest.approx(0.93387, abs=5e-6)
    assert dcor2(first, torch.ones_like(first), method=method).item() == 0.0


@pytest.mark.many_features
def test_iris_of_the_r_package_energy(method: str) -> None:
    data = torch.from_numpy(load_iris().data)
    # R's copy of the data differs from scikit-learn's in these two rows.
    data[34], data[37] = tensor([4.9, 3.1, 1.5, 0.2]), tensor([4.9, 3.6, 1.4, 0.1])
    x, y = data[:50], data[50:100]
    assert dcov(x, y, method=method).item() == pytest.approx(0.1025087, abs=5e-8)
    assert dcor(x, y, method=method).item() == pytest.approx(0.3060479, abs=5e-8)
    assert dvar2(x, method=method).sqrt().item() == pytest.approx(0.2712927, abs=5e-8)
    assert dvar2(y, method=method).sqrt().item() == pytest.approx(0.4135274, abs=5e-8)
    assert 50 * dcov2(x, y, method=method).item() == pytest.approx(0.5254, abs=5e-5)
    u = {"unbiased": True, "method": method}
    assert dcov2(x, y, **u).item() == pytest.approx(-0.002748351, abs=5e-10)
    assert dcor2(x, y, **u).item() == pytest.approx(-0.027170902, abs=5e-10)


@pytest.mark.many_features
def test_hundred_numbers_in_five_columns(method: str) -> None:
    x = torch.arange(1.0, 101.0, dtype=F64).reshape(20, 5)
    y = x + x.log()
    assert dcov(x, y, method=method).item() == pytest.approx(47.86925, abs=5e-6)
    assert dcor(x, y, method=method).item() == pytest.approx(0.9999704, abs=5e-8)
    assert dvar2(x, method=method).sqrt().item() == pytest.approx(47.28702, abs=5e-6)
    assert dvar2(y, method=method).sqrt().item() == pytest.approx(48.46151, abs=5e-6)
    assert 20 * dcov2(x, y, method=method).item() == pytest.approx(45829, abs=0.5)


def test_five_points(method: str) -> None:
    x, y = tensor([1.0, 2.0, 3.0, 4.0, 5.0]), tensor([1.0, 2.0, 9.0, 4.0, 4.0])
    assert dcor(x, y, method=method).item() == pytest.approx(0.762676242417, abs=1e-12)
    corrected = dcor2(x, y, unbiased=True, method=method).item()
    assert corrected == pytest.approx(0.8164965809, abs=1e-10)


@pytest.mark.parametrize("dtype", [F64, torch.float32])
def test_half_zeros_half_ones(dtype: torch.dtype) -> None:
    x = torch.cat([torch.zeros(500, dtype=dtype), torch.ones(500, dtype=dtype)])
    for name in METHODS:
        assert dcov2(x, x, method=name).item() == pytest.approx(
            0.25, abs=0 if dtype == F64 else 2e-8
        )
        u = dcov2(x, x, unbiased=True, method=name).item()
        assert u == pytest.approx(0.2505012535, abs=1e-10 if dtype == F64 else 2e-8)


# -- the bivariate normal distribution -------------------------------------------------------------


def population(r: float) -> float:
    """The value g of Székely, Rizzo and Bakirov 2007, Theorem 7: dCov² is 4 g / pi."""
    return r * math.asin(r) + math.sqrt(1 - r * r) - r * math.asin(r / 2) - math.sqrt(4 - r * r) + 1


@pytest.mark.parametrize(
    ("r", "correlation", "covariance"),
    [(0.3, 0.072362, 0.029036), (0.5, 0.206231, 0.082752), (0.9, 0.753733, 0.302441)],
)
def test_bivariate_normal(r: float, correlation: float, covariance: float) -> None:
    """The unbiased statistic averages to the population's value over many samples."""
    assert 4 * population(r) / math.pi == pytest.approx(covariance, abs=5e-7)
    assert population(r) / (1 + math.pi / 3 - math.sqrt(3)) == pytest.approx(correlation, abs=5e-7)
    problems, n = 2000, 40
    x, e = draw(problems, n, 1, seed=1), draw(problems, n, 1, seed=2)
    y = r * x + math.sqrt(1 - r * r) * e
    estimates = dcov2(x, y, unbiased=True)
    error = estimates.std() / math.sqrt(problems)
    assert abs(estimates.mean() - covariance) < 4 * error
    variances = dvar2(x, unbiased=True)
    assert abs(variances.mean() - 0.401257) < 4 * variances.std() / math.sqrt(problems)
    # The biased one is too large by far more than that, so the test can tell them apart.
    assert dcov2(x, y).mean() - covariance > 5 * error


def test_names_of_dcor_give_its_documented_numbers() -> None:
    a, b = rows_of_four()
    assert names.distance_covariance(a, b).item() == pytest.approx(1.0)
    assert names.distance_covariance_sqr(a, a).item() == pytest.approx(52.0)
    assert names.u_distance_covariance_sqr(a, b).item() == pytest.approx(-8 / 3)
    assert names.distance_correlation(a, b).item() == pytest.approx(0.5266403, abs=1e-7)
    assert names.distance_correlation_sqr(a, b).item() == pytest.approx(0.2773501, abs=1e-7)
    assert names.u_distance_correlation_sqr(a, b).item() == pytest.approx(-0.5)
    np.testing.assert_allclose(
        [t.item() for t in names.distance_stats_sqr(a, b)], [1.0, 0.2773501, 52.0, 0.25], atol=1e-7
    )
    np.testing.assert_allclose(
        [t.item() for t in names.u_distance_stats_sqr(a, b)], [-8 / 3, -0.5, 128 / 3, 2 / 3]
    )
